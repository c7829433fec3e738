"""What the tests know about the notebooks: their order, their cells, their links."""
import json
import re
from functools import cache
from pathlib import Path

root = Path(__file__).resolve().parent.parent
nbs = root / "nbs"
EXPORT = {"export", "exports", "exporti"}


def notebooks() -> list[Path]:
    """Every notebook, in reading order; nbdev's rules: names that open with `_` or `.` are none."""
    return sorted(nbs.glob("[!._]*.ipynb"))


@cache
def cells(path: Path) -> list[dict]:
    """The cells of a notebook, with the source as one string and nbdev's directives as a dict."""
    out = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for c in out:
        c["source"] = "".join(c["source"])
        top = re.match(r"(?:#\|.*\n?|\s*\n)*", c["source"])[0] if c["cell_type"] == "code" else ""
        c["directives"] = dict(re.findall(r"^#\|\s*([\w-]+):?[ \t]*(.*)$", top, re.M))
    return out


def code(path: Path, exported: bool | None = None) -> list[dict]:
    """The code cells; only those that are exported, or are not, when `exported` says so."""
    out = [c for c in cells(path) if c["cell_type"] == "code"]
    return out if exported is None else [c for c in out if bool(EXPORT & c["directives"].keys()) == exported]


def prose(path: Path) -> str:
    return "\n\n".join(c["source"] for c in cells(path) if c["cell_type"] == "markdown")


def module(path: Path) -> str | None:
    """The module that a notebook writes, `attnax.x`; `attnax` itself for `__init__`."""
    names = [c["directives"]["default_exp"].strip() for c in code(path) if "default_exp" in c["directives"]]
    return ("attnax." + names[0]).removesuffix(".__init__") if names else None


def links(path: Path) -> list[str]:
    """The addresses that the prose of a notebook links to."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", prose(path), flags=re.S))
