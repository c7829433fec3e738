"""The names that users may import, with the defaults of their arguments: `public_names.py` prints them, `--write` makes them
the list that the tests hold to.

A package shows what its `__init__` has, modules apart; a module shows its `__all__`. Each name is written once, in an
import of its package's page: `--write` also writes the cells that repeat them, `all` of every page of a package (what it
imports) and `names` of the page of `attnax` (what its packages offer). Last it writes what `help()` says of them, as
`tools/help_texts.py --write` does.
"""
import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

root = Path(__file__).resolve().parent.parent
nbs, listed = root / "nbs", root / "tests" / "public_names.txt"
modules = ("attnax", "attnax.kernels", "attnax.kernels.score_mods", "attnax.pretrained", "attnax.testing",
           "attnax.training")
offered = ("kernels", "layers", "models")  # packages whose names `attnax` offers too


def defaults(thing) -> str:
    """The arguments of a function or class that have a default, ` name=value` each."""
    own = isinstance(thing, type) and thing.__init__ is not object.__init__
    try: parameters = inspect.signature(thing.__init__ if own else thing).parameters.values()
    except (TypeError, ValueError): return ""   # no function, or one without a signature
    def said(x): return x.__name__ if isinstance(x, type) or inspect.isfunction(x) else repr(x)
    return "".join(f" {p.name}={said(p.default)}" for p in parameters if p.default is not p.empty)


def public_names() -> list[str]:
    names = []
    for m in map(importlib.import_module, modules):
        own = dir(m) if hasattr(m, "__path__") else m.__all__
        shown = [n for n in own if not n.startswith("_") and not isinstance(getattr(m, n), ModuleType)]
        names += sorted(f"{m.__name__}.{n}{defaults(getattr(m, n))}" for n in shown)
    return names


def imported(sources: list[str]) -> list[str]:
    """What import statements bind, in order. `from attnax import x as x` brings a module, which is no name of ours."""
    nodes = [n for s in sources for n in ast.walk(ast.parse(s)) if isinstance(n, ast.ImportFrom)]
    nodes = [n for n in nodes if n.module.startswith("attnax.")]
    return list(dict.fromkeys(a.name for n in nodes for a in n.names if a.asname is None))


def exports(nb: dict) -> dict[str, str]:
    """Exported cells by id."""
    sources = {c["id"]: "".join(c["source"]) for c in nb["cells"] if c["cell_type"] == "code"}
    return {i: s for i, s in sources.items() if s.startswith("#| export")}


def wrapped(head: str, items: list[str], tail: str, indent: str = "    ") -> str:
    body = textwrap.fill(", ".join(items), 100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return f"{head}\n{body}{tail}"


def package_pages() -> dict[Path, tuple[dict, dict[str, str]]]:
    """For each page of a package: the notebook, and what its written cells should hold."""
    pages, names = {}, {}
    for path in sorted(nbs.glob("9*_init.ipynb")):
        nb = json.loads(path.read_text(encoding="utf-8"))
        cells, want = exports(nb), {}
        home = path.stem.split("_", 1)[1].removesuffix("_init").removesuffix("init")
        if not home:
            lines = [wrapped(f"    from attnax.{p} import (", names[p], ")", indent=" " * 8) for p in offered]
            want["names"] = cells["names"] = "#| export\nif TYPE_CHECKING:\n" + "\n".join(lines)
        names[home] = imported([s for i, s in cells.items() if i != "all"])
        want["all"] = "#| export\n" + wrapped("_all_ = [", [f'"{n}"' for n in names[home]], "]")
        pages[path] = nb, want
    return pages


def stale_pages(write: bool = False) -> list[str]:
    """Pages whose written cells are not what their imports say; `write` mends them."""
    stale = []
    for path, (nb, want) in package_pages().items():
        found = {c["id"]: c for c in nb["cells"] if c["id"] in want}
        wrong = [i for i, s in want.items() if "".join(found[i]["source"]) != s]
        if wrong: stale.append(f"{path.name} ({', '.join(wrong)})")
        for i in wrong: found[i]["source"] = want[i].splitlines(keepends=True)
        if wrong and write: path.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return stale


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.path.insert(0, str(root))
    if "--write" in sys.argv and (stale := stale_pages(write=True)):
        print("wrote", ", ".join(stale))
        subprocess.run([sys.executable, "-c", "from nbdev.doclinks import nbdev_export; nbdev_export()"], cwd=root, check=True)
    text = "\n".join(public_names()) + "\n"
    if "--write" in sys.argv:
        listed.write_text(text, encoding="utf-8")
        subprocess.run([sys.executable, str(root / "tools" / "help_texts.py"), "--write"], cwd=root, check=True)
    else: print(text, end="")
