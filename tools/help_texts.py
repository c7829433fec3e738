"""What `help()` says of every public name: its docstring, and what the comments behind its parameters mean.

A function of attnax explains each argument in a comment behind it, which Python does not keep. This tool reads the comments
from the generated modules and writes docstrings with `Args:` and `Returns:` into `attnax/data/help.json`, which
`attnax.typing.add_help` gives to the functions and classes when their package is imported.

`python tools/help_texts.py` says what is stale and which parameters have no comment, `--write` writes the file.
"""
import ast
import dataclasses
import enum
import functools
import importlib
import inspect
import io
import json
import os
import re
import sys
import textwrap
import tokenize
from pathlib import Path
from types import ModuleType

root = Path(__file__).resolve().parent.parent
written = root / "attnax" / "data" / "help.json"
modules = ("attnax.kernels", "attnax.kernels.score_mods", "attnax.layers", "attnax.models", "attnax.models.generate",
           "attnax.pretrained", "attnax.training", "attnax.bench", "attnax.audio", "attnax.testing", "attnax.typing",
           "attnax.weights")


@functools.cache
def source(module: str) -> tuple[list[str], dict[str, ast.AST], dict[int, str], set[int]]:
    """Lines of a module, its definitions by qualified name, its comments by line, and the lines that hold nothing else."""
    text = Path(sys.modules[module].__file__).read_text(encoding="utf-8")
    nodes = {}
    def visit(parent, prefix):
        for node in parent.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef): continue
            nodes[prefix + node.name] = node
            if isinstance(node, ast.ClassDef): visit(node, f"{prefix}{node.name}.")
    visit(ast.parse(text), "")
    found = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT]
    comments = {t.start[0]: t.string.lstrip("# ").strip() for t in found}
    return text.splitlines(), nodes, comments, {t.start[0] for t in found if t.line.lstrip().startswith("#")}


@dataclasses.dataclass
class Parameter:
    name: str
    kind: str     # As the source writes it
    default: str
    meaning: str

    def line(self) -> str:
        about = ", ".join(filter(None, [self.kind, self.default and f"default {self.default}"]))
        return (f"{self.name} ({about})" if about else self.name) + (f": {self.meaning}" if self.meaning else "")


def said(module: str, first: int, last: int) -> str:
    """The comment on some lines, with the lines of nothing but comment that continue it."""
    _, _, comments, alone = source(module)
    at = [i for i in range(first, last + 1) if i in comments]
    for i in range(last + 1, last + 20):
        if at and i in alone: at.append(i)
        else: break
    return " ".join(comments[i] for i in at)


def text_of(module: str, node: ast.AST | None) -> str:
    """The source of a node on one line."""
    if node is None: return ""
    lines = [x.encode() for x in source(module)[0][node.lineno - 1:node.end_lineno]]   # columns count bytes
    lines[-1] = lines[-1][:node.end_col_offset]
    return " ".join(b" ".join([lines[0][node.col_offset:], *lines[1:]]).decode().split())


def of_function(module: str, node: ast.FunctionDef) -> tuple[list[Parameter], str]:
    """The parameters of a definition, and `type: meaning` of what it returns."""
    a = node.args
    plain = a.posonlyargs + a.args
    defaults = dict(zip([x.arg for x in plain][len(plain) - len(a.defaults):], a.defaults))
    defaults |= {x.arg: d for x, d in zip(a.kwonlyargs, a.kw_defaults) if d is not None}
    stars = {id(a.vararg): "*", id(a.kwarg): "**"}
    every = [*plain, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    if "." in node.qualified and not static: every = every[1:]
    out = []
    for x in every:
        default = defaults.get(x.arg)
        meaning = said(module, x.lineno, (default or x).end_lineno) if x.lineno != node.lineno else ""
        out.append(Parameter(stars.get(id(x), "") + x.arg, text_of(module, x.annotation), text_of(module, default), meaning))
    head = node.returns or (every[-1] if every else node)
    start = head.end_lineno if node.returns else head.end_lineno + 1
    meaning = said(module, start, max(start, node.body[0].lineno - 1))
    kind = text_of(module, node.returns)
    return out, "" if kind in ("", "None") and not meaning else f"{kind}: {meaning}".strip(": ") if kind else meaning


def definition(thing) -> tuple[str, ast.AST | None]:
    """Where a function or class is written."""
    thing = inspect.unwrap(thing)
    node = source(thing.__module__)[1].get(thing.__qualname__)
    if node is not None: node.qualified = thing.__qualname__
    return thing.__module__, node


def ours(cls: type) -> list[type]:
    return [c for c in cls.__mro__ if c.__module__.startswith("attnax")]


def fields(cls: type) -> list[Parameter]:
    """Fields of a dataclass or a named tuple, in the order of its constructor."""
    known = {}
    for c in reversed(ours(cls)):
        module, node = definition(c)
        for x in [x for x in node.body if isinstance(x, ast.AnnAssign)] if node else []:
            default, name = x.value, x.target.id
            if isinstance(default, ast.Call) and getattr(default.func, "id", getattr(default.func, "attr", "")) == "field":
                words = {k.arg: k.value for k in default.keywords}
                default = words.get("default") or words.get("default_factory")
            meaning = said(module, x.lineno, x.end_lineno) or (known[name].meaning if name in known else "")
            known[name] = Parameter(name, text_of(module, x.annotation), text_of(module, default), meaning)
    return [known[n] for n in inspect.signature(cls.__init__ if dataclasses.is_dataclass(cls) else cls).parameters if n in known]


def of_class(cls: type) -> tuple[list[Parameter], str]:
    """What a class is made with; the heading is another one for an enumeration."""
    if issubclass(cls, enum.Enum):
        module, node = definition(cls)
        members = [x for x in node.body if isinstance(x, ast.Assign)]
        said_of = {x.targets[0].id: (text_of(module, x.value), "", said(module, x.lineno, x.end_lineno)) for x in members}
        return [Parameter(name, *about) for name, about in said_of.items()], "Values"
    if getattr(cls, "_is_protocol", False): return of_function(*definition(cls.__call__))[0], "Called with"
    if dataclasses.is_dataclass(cls) or hasattr(cls, "_fields"): return fields(cls), "Args"
    inits = [of_function(*definition(vars(c)["__init__"]))[0] for c in ours(cls) if "__init__" in vars(c)]
    own, *base = inits or [[]]
    if base and any(p.name.startswith("**") for p in own):   # takes what its parent takes, with defaults of its own
        defaults = {p.name: p.default for p in own if p.default}
        own = [dataclasses.replace(p, default=defaults.get(p.name, p.default)) for p in base[0]]
    return own, "Args"


def plain(text: str) -> str:
    """Without the links and the emphasis of notebooks."""
    text = re.sub(r"\[([^\]\n]+)\]\([^)\s]+\)", r"\1", text)
    return re.sub(r"\*\*([^*\n]+)\*\*", r"\1", text)


def block(title: str, lines: list[str]) -> list[str]:
    fill = functools.partial(textwrap.fill, width=100, initial_indent="    ", subsequent_indent="        ",
                             break_long_words=False, break_on_hyphens=False)
    return [f"{title}:\n" + "\n".join(fill(plain(x)) for x in lines)] if lines else []


def docstring(own: str | None, parameters: list[Parameter], title: str, returns: str) -> str:
    """The docstring as written, with the arguments before its first paragraph about errors or sources."""
    paragraphs = [p for p in re.split(r"\n\s*\n", plain(inspect.cleandoc(own or ""))) if p]
    last = next((i for i, p in enumerate(paragraphs) if re.match(r"Raises:|Source:", p)), len(paragraphs))
    about = block(title, [p.line() for p in parameters]) + block("Returns", [returns] if returns else [])
    return "\n\n".join([*paragraphs[:last], *about, *paragraphs[last:]]) + "\n"


def own_doc(node: ast.AST | None) -> str | None: return node and ast.get_docstring(node)


def parents(cls: type, name: str) -> list:
    """What a method overrides, nearest first; the call of a mod is that of the protocol."""
    found = [getattr(vars(c).get(name), "__func__", vars(c).get(name)) for c in ours(cls)]
    if name == "__call__": found.append(importlib.import_module("attnax.typing").ScoreMod.__call__)
    return [f for f in found if inspect.isfunction(f) and definition(f)[1] is not None]


def inherit(cls: type, name: str, parameters: list[Parameter]) -> None:
    """Fill in what the same method of a parent says of parameters of the same name."""
    for f in parents(cls, name):
        known, doc = {p.name: p for p in of_function(*definition(f))[0]}, own_doc(definition(f)[1]) or ""
        for p in parameters:
            if p.meaning or p.name not in known: continue
            p.kind = p.kind or known[p.name].kind
            p.meaning = known[p.name].meaning or (f"As in `{f.__qualname__}`" if f"`{p.name}`" in doc else "")


def methods(cls: type) -> dict[str, object]:
    """Public methods that attnax gives a class, its own and inherited ones, as functions."""
    out = {}
    for c in ours(cls):
        for name, x in vars(c).items():
            x = getattr(x, "__func__", x)
            if inspect.isfunction(x) and (not name.startswith("_") or name == "__call__") and name not in out: out[name] = x
    return {n: x for n, x in out.items() if inspect.unwrap(x).__module__.startswith("attnax")}


def public() -> list:
    """Every public function and class, once."""
    found = {}
    for m in map(importlib.import_module, modules):
        for name in m.__all__:
            thing = getattr(m, name)
            if isinstance(thing, ModuleType) or not getattr(thing, "__module__", "").startswith("attnax"): continue
            if inspect.isfunction(thing) or isinstance(thing, type): found[thing.__module__, thing.__qualname__] = thing
    return [found[key] for key in sorted(found)]


def explained() -> dict[tuple[str, str], tuple[list[Parameter], str, str, str | None]]:
    """For each public function, class and method: its parameters, their heading, what it returns, its own docstring."""
    out = {}
    def function(f, key, cls=None):
        module, node = definition(f)
        if node is None: return   # made by a decorator, as the methods of a dataclass are
        parameters, returns = of_function(module, node)
        if cls is not None: inherit(cls, node.name, [p for p in parameters if f"`{p.name}`" not in (own_doc(node) or "")])
        out[key] = parameters, "Args", returns, own_doc(node)
    for thing in public():
        key = thing.__module__, thing.__qualname__
        if inspect.isfunction(thing): function(thing, key)
        else:
            out[key] = (*of_class(thing), "", own_doc(definition(thing)[1]))
            for f in methods(thing).values(): function(f, (f.__module__, f.__qualname__), thing)
            for c in ours(thing):
                init = vars(c).get("__init__")
                if inspect.isfunction(init) and definition(init)[1] is not None:
                    out[c.__module__, init.__qualname__] = [], "", "", f"Make one: the arguments are those of `{c.__qualname__}`."
    return out


def help_texts() -> dict[str, dict[str, str]]:
    """By module and qualified name, the docstring to give."""
    out: dict[str, dict[str, str]] = {}
    for (module, name), (parameters, title, returns, own) in sorted(explained().items()):
        out.setdefault(module, {})[name] = docstring(own, parameters, title, returns)
    return out


def unexplained() -> list[str]:
    """Parameters without a comment, and without a word in the docstring either."""
    return [f"{module}.{name}: {p.name}" for (module, name), (parameters, _, _, own) in sorted(explained().items())
            for p in parameters if not p.meaning and f"`{p.name}`" not in (own or "")]


def as_json() -> str: return json.dumps(help_texts(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.path.insert(0, str(root))
    now = as_json()
    if "--write" in sys.argv: written.write_text(now, encoding="utf-8")
    elif not written.is_file() or written.read_text(encoding="utf-8") != now: print("attnax/data/help.json is stale: --write")
    for line in unexplained(): print("no comment:", line)
