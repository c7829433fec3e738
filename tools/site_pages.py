"""Pages that are written from others before the site is rendered: the index of names (api.qmd) and llms.txt.

`_quarto.yml` names this script as `pre-render`, so Quarto and smalldocs both run it, in the folder that they render.
It reads text alone: the names that the tests hold to, nbdev's index of where each is defined, and the notebooks.
"""
import ast
import json
import re
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
PACKAGES = {"attnax.kernels": "Kernels", "attnax.layers": "Layers", "attnax.models": "Models",
            "attnax.pretrained": "Pretrained weights", "attnax.training": "Training", "attnax.testing": "Testing",
            "attnax.bench": "Benchmarks", "attnax": "The rest"}


def definitions() -> dict[str, tuple[str, str, str]]:
    """For each name the module and the address of its definition, and the first sentence of its docstring."""
    said = ast.literal_eval(re.search(r"d = (\{.*\})", (root / "attnax" / "_modidx.py").read_text(encoding="utf-8"), re.S)[1])
    found = {}
    for module, names in said["syms"].items():
        path = root / Path(*module.split("."))
        path = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
        body = ast.parse(path.read_text(encoding="utf-8")).body
        nodes = {o.name: o for o in body if isinstance(o, (ast.FunctionDef, ast.ClassDef))}
        page = next(iter(names.values()))[0].split("#")[0] if names else None
        for o in body:   # types and constants have no heading of their own
            if not page or not isinstance(o, ast.Assign | ast.AnnAssign): continue
            found[ast.unparse(o.target if isinstance(o, ast.AnnAssign) else o.targets[0])] = (module, page, kind(o.value))
        for full, (address, _) in names.items():
            name = full.removeprefix(module + ".")
            if name in nodes: found[name] = (module, address, first_sentence(ast.get_docstring(nodes[name]) or ""))
    return found


def kind(value: ast.expr | None) -> str:
    """What an assigned name is: a choice of words, or a value."""
    words = isinstance(value, ast.Subscript) and ast.unparse(value.value) == "Literal"
    return "One of " + ast.unparse(value.slice).strip("()") if words else "A constant"


def first_sentence(doc: str) -> str:
    """One line, without links: `[text](address)` is its text."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.split(r"\n\s*\n|(?<=\.)\s", doc.strip())[0])
    return " ".join(text.split()).replace("|", r"\|")


def public() -> dict[str, list[str]]:
    """For each public name the modules that offer it; the shortest first."""
    found = {}
    for line in (root / "tests" / "public_names.txt").read_text(encoding="utf-8").splitlines():
        module, name = line.split(" ", 1)[0].rsplit(".", 1)
        found.setdefault(name, []).append(module)
    return found


def api_page() -> str:
    """Markdown of the index of names."""
    where, rows = definitions(), {title: [] for title in PACKAGES.values()}
    for name, modules in sorted(public().items(), key=lambda x: x[0].lower()):
        module, address, said = where[name]
        title = next(t for p, t in PACKAGES.items() if f"{module}.".startswith(f"{p}."))
        rows[title].append(f"| [`{name}`]({address}){{.api-name}} | {said} | `{min(modules, key=len)}` |")
    head = ["---", "title: Index of names", "page-navigation: false",
            "description: Every public name, what it is, where to import it from, and the page that defines it.", "---", ""]
    top = "| Name | What it is | Import from |\n|---|---|---|"
    return "\n".join(head + [f"## {title}\n\n{top}\n" + "\n".join(found) + "\n" for title, found in rows.items() if found])


def sidebar() -> list[tuple[str, list[str]]]:
    """Sections of the sidebar, each with its notebooks."""
    text, found = (root / "_quarto.yml").read_text(encoding="utf-8"), []
    for line in text.splitlines():
        if m := re.match(r"\s*- section: (.+)", line): found.append((m[1], []))
        elif (m := re.match(r"\s*- ([\w.]+\.ipynb)\s*$", line)) and found: found[-1][1].append(m[1])
    return found


def llms_txt() -> str:
    """The pages in the order of the sidebar, one line each, as https://llmstxt.org asks."""
    settings = dict(re.findall(r"^(\w+) = (.*)$", (root / "settings.ini").read_text(encoding="utf-8"), re.M))
    site, repo = settings["doc_host"] + settings["doc_baseurl"], f"{settings['git_url']}/blob/{settings['branch']}"
    lines = ["# attnax", "", f"> {settings['description']}", "",
             f"Each page is a notebook of {repo}/nbs that defines a part of the library, explains it and tests it; the package "
             f"under {repo}/attnax is generated from them. Import from `attnax` what the index of names lists.", ""]
    lines += ["## Names", "", f"- [Index of names]({site}/api.html): every public name, with its page", ""]
    for section, pages in sidebar():
        lines += [f"## {section}", ""]
        for name in pages:
            first = "".join(json.loads((root / "nbs" / name).read_text(encoding="utf-8"))["cells"][0]["source"])
            title, summary = re.fullmatch(r"# ([^\n]*)\n\n> (.*)", first.strip(), re.S).groups()
            page = re.sub(r"^\d+[a-z]?_", "", name).replace(".ipynb", ".html")
            lines.append(f"- [{title}]({site}/{page}): {summary}")
        lines.append("")
    return "\n".join(lines)


def write(folder: Path) -> None:
    (folder / "api.qmd").write_text(api_page(), encoding="utf-8")
    (folder / "llms.txt").write_text(llms_txt(), encoding="utf-8")


if __name__ == "__main__": sys.exit(write(Path.cwd()))
