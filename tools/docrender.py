"""What nbdev asks for when it makes pages: `settings.ini` names it, `nbs/99_docrender.ipynb` shows it and tests it."""
import ast
import inspect
import re

from execnb.nbio import mk_cell
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
) -> bool:       # True when every statement is an import
    """Whether a cell has nothing to read."""
    return all(isinstance(o, (ast.Import, ast.ImportFrom)) for o in ast.parse(source).body)


def heading(
    name: str,          # Public name
    lookup: NbdevLookup # Index of names, for the link to the source
) -> str:               # Markdown of the heading
    """A heading that other pages can link to."""
    url = lookup.code(name)
    link = f"\n\n::: {{.source-link}}\n[source]({url})\n:::" if url else ""
    return f"### {name} {{#{name.lower()} .definition}}{link}"


class ShowSource(Processor):
    """nbdev processor that keeps exported cells, under a heading for each public name.

    It stands in for nbdev's own `add_show_docs` and `rm_export`, which `skip_procs` in `settings.ini` leaves out.
    """
    def begin(self):
        cells, lookup = [], NbdevLookup()
        for cell in self.nb.cells:
            marks = cell.directives_.keys() if cell.cell_type == "code" else set()
            if "default_exp" in marks: continue
            if marks & {"export", "exports", "exporti"}:
                if only_imports(cell.source): cell.source = '#| code-fold: true\n#| code-summary: "Imports"\n' + cell.source
                else: cells += [mk_cell(heading(n, lookup), "markdown") for n in public_definitions(cell.source)]
            cells.append(cell)
        self.nb.cells = cells
        for i, cell in enumerate(cells): cell.idx_ = i


class Renderer(BasicMarkdownRenderer):
    """nbdev's renderer, with the signature of a class taken from its `__init__`; `settings.ini` names it."""
    def __init__(self, sym, *args, **kwargs):
        if inspect.isclass(sym) and "__signature__" not in vars(sym) and sym.__init__ is not object.__init__:
            sig = inspect.signature(sym.__init__)
            sym.__signature__ = sig.replace(parameters=list(sig.parameters.values())[1:])
        super().__init__(sym, *args, **kwargs)

    def _repr_markdown_(self): return re.sub(r"\bjaxlib\.\w+\.Array\b", "Array", super()._repr_markdown_())
    __repr__ = __str__ = _repr_markdown_
