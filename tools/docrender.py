"""What nbdev asks for when it makes pages: `settings.ini` names it, `nbs/99_docrender.ipynb` shows it and tests it."""
import ast
import inspect
import json
import re
from pathlib import Path

from execnb.nbio import mk_cell
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup
from nbdev.process import Processor
from nbdev.showdoc import BasicMarkdownRenderer


def public_definitions(
    source: str  # Source of one cell
) -> list[str]:  # Public functions and classes that it defines, in order
    """The names that deserve a heading."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [o.name for o in ast.parse(source).body if isinstance(o, kinds) and not o.name.startswith("_")]


def only_imports(
    source: str  # Source of one cell
) -> bool:       # True when every statement is an import, or asks JAX for more devices, as imports of some examples do
    """Whether a cell has nothing to read."""
    def plain(o): return isinstance(o, (ast.Import, ast.ImportFrom)) or ast.unparse(o).startswith("jax.config.update(")
    body = ast.parse(source).body
    return all(map(plain, body)) and not all(isinstance(o, ast.Expr) for o in body)


def helpers(
    source: str     # Source of one cell
) -> list[str]:     # The private names that it defines, in order; none when it does anything else
    """The names of a cell that the story can be read without."""
    names = []
    for o in ast.parse(source).body:
        if isinstance(o, (ast.Import, ast.ImportFrom)): continue
        defines = isinstance(o, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        names += [o.name] if defines else [ast.unparse(t) for t in getattr(o, "targets", [getattr(o, "target", o)])]
    return names if all(re.fullmatch(r"_\w*[^\W_]", n) for n in names) else []


def draws(
    source: str  # Source of one cell
) -> bool:       # True when at least half of its lines, and at least three, are about axes and figures
    """Whether a cell that shows a picture is there for the picture."""
    lines = [x for x in source.splitlines() if x.strip() and not x.lstrip().startswith("#")]
    drawing = [x for x in lines if re.search(r"\b(plt|axe?s?|fig(ure)?)\b *[.\[,=]|\bsubplots\(", x)]
    return len(drawing) >= max(3, len(lines) / 2)


def said_first(
    source: str # Source of one cell
) -> str:       # The first sentence of the first docstring in it, without marks; empty when there is none
    """What a cell says of itself."""
    docs = [d for o in ast.parse(source).body if isinstance(o, (ast.FunctionDef, ast.ClassDef)) and (d := ast.get_docstring(o))]
    if not docs: return ""
    return re.sub(r"[`\"'{}]", "", re.split(r"(?<=[.:;])\s|\n\n", docs[0])[0].replace("\n", " ")).rstrip(".:;")


def fold(
    source: str,        # Source of one cell
    picture: bool,      # Whether it shows a picture
    exported: bool,     # Whether it is part of the library
    hidden: bool=False  # Whether the page hides it
) -> str | None:        # The line to show in its place, or None for a cell that stays open
    """Imports, private helpers and the code of a picture are folded; a cell that says `code-fold` itself has the last word."""
    if re.search(r"^#\|\s*(code-fold|echo):", source, re.M): return None
    try: ast.parse(source)
    except SyntaxError: return None   # a cell with a magic
    if only_imports(source): return "Imports of the examples" if hidden else "Imports"
    if hidden: return None
    if exported and (names := helpers(source)):
        return f"Helper{'s' if len(names) > 1 else ''} {', '.join(names)}" + (f": {said}" if (said := said_first(source)) else "")
    return "Code of the picture" if picture and not exported and draws(source) else None


def heading(
    name: str,          # Public name
    lookup: NbdevLookup # Index of names, for the link to the source
) -> str:               # Markdown of the heading
    """A heading that other pages can link to."""
    url = lookup.code(name)
    link = f"\n\n::: {{.source-link}}\n[source]({url})\n:::" if url else ""
    return f"### {name} {{#{name.lower()} .definition}}{link}"


def page_links(
    path: Path,     # The notebook
    has_code: bool, # Whether there is anything to run
    badge: bool     # Whether the notebook has a link to Colab itself
) -> str:           # Markdown of the links to the notebook, as a file and as something to run
    """Where a page comes from, and where it runs."""
    cfg = get_config()
    at = f"{cfg.git_url.removeprefix('https://github.com/')}/blob/{cfg.branch}/{cfg.nbs_path.name}/{path.name}"
    colab = f" [Open in Colab](https://colab.research.google.com/github/{at}){{.open-in-colab}}" if has_code and not badge else ""
    return f"::: {{.page-links}}\n[Notebook](https://github.com/{at}){{.source-notebook}}{colab}\n:::"


class ShowSource(Processor):
    """nbdev processor that keeps exported cells, under a heading for each public name, and folds what need not be read.

    It stands in for nbdev's own `add_show_docs`, `rm_export` and `hide_`, which `skip_procs` in `settings.ini` leaves out.
    """
    def begin(self):
        cells, lookup = [], NbdevLookup()
        for cell in self.nb.cells:
            marks = cell.directives_.keys() if cell.cell_type == "code" else set()
            if "default_exp" in marks: continue
            exported, hidden = bool(marks & {"export", "exports", "exporti"}), "hide" in marks
            if exported: cells += [mk_cell(heading(n, lookup), "markdown") for n in public_definitions(cell.source)]
            said = None
            if cell.cell_type == "code":
                picture = any(k.startswith("image/") for o in cell.get("outputs", []) for k in o.get("data", {}))
                said = fold(cell.source, picture, exported, hidden)
            if said: cell.source = f"#| code-fold: true\n#| code-summary: {json.dumps(said)}\n{cell.source}"
            if said or not hidden: cells.append(cell)
        if path := self.nb.get("path_"): cells.insert(1, self.links(Path(path)))
        self.nb.cells = cells
        for i, cell in enumerate(cells): cell.idx_ = i

    def links(self, path: Path):
        """The cell after the title."""
        code = [c for c in self.nb.cells if c.cell_type == "code" and "default_exp" not in c.directives_]
        badge = any("colab.research.google.com" in c.source for c in self.nb.cells if c.cell_type == "markdown")
        return mk_cell(page_links(path, bool(code), badge), "markdown")


class Renderer(BasicMarkdownRenderer):
    """nbdev's renderer, with the signature of a class taken from its `__init__`; `settings.ini` names it."""
    def __init__(self, sym, *args, **kwargs):
        if inspect.isclass(sym) and "__signature__" not in vars(sym) and sym.__init__ is not object.__init__:
            sig = inspect.signature(sym.__init__)
            sym.__signature__ = sig.replace(parameters=list(sig.parameters.values())[1:])
        super().__init__(sym, *args, **kwargs)

    def _repr_markdown_(self): return re.sub(r"\bjaxlib\.\w+\.Array\b", "Array", super()._repr_markdown_())
    __repr__ = __str__ = _repr_markdown_
