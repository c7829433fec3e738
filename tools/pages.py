"""How the notebooks read, in numbers: `pages.py` prints a line per page and the whole, `pages.py 13 21` those pages alone.

cells   exported cells: median and longest, in lines (without directives and empty lines)
wide    the widest line of code, in columns
words   words of prose per exported line
laws    cells that test something, and the share of them that the reader sees
used    public definitions, and the share of them that a later cell uses before the next definition
picture whether the page shows one
"""
import ast
import re
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from notebooks import EXPORT, cells, notebooks

TESTS = re.compile(r"^\s*(?:assert\b|test_\w+\(|assert_close\(|check_\w+\(|with ExceptionExpected)", re.M)
IDEAS = re.compile(r"(?:[1-4]\d[a-z]?|5[0-3])_")  # rooms 10 to 53, where the issue of prose is counted


def lines(source: str) -> list[str]:
    """What counts as a line of a cell."""
    return [x for x in source.splitlines() if x.strip() and not x.startswith("#|")]


def defined(source: str) -> list[str]:
    """Public functions and classes of an exported cell."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [o.name for o in ast.parse(source).body if isinstance(o, kinds) and not o.name.startswith("_")]


def measure(path: Path) -> dict:
    """The numbers of one page."""
    code = [c for c in cells(path) if c["cell_type"] == "code" and "default_exp" not in c["directives"]
            and c["id"] != "colab"]  # which tools/colab.py writes
    exported = [c for c in code if EXPORT & c["directives"].keys()]
    bodies = [len(lines(c["source"])) for c in exported]
    prose = " ".join(re.sub(r"```.*?```", "", c["source"], flags=re.S) for c in cells(path) if c["cell_type"] == "markdown")
    tests = [c for c in code if c not in exported and TESTS.search(c["source"])]
    used, public = 0, 0
    for i, c in enumerate(code):
        if c not in exported or not (names := defined(c["source"])): continue
        public += len(names)
        until = next((j for j in range(i + 1, len(code)) if code[j] in exported and defined(code[j]["source"])), len(code))
        between = "\n".join(x["source"] for x in code[i + 1:until])
        used += sum(bool(re.search(rf"\b{re.escape(n)}\b", between)) for n in names)
    shown = any(o.get("data", {}).keys() & {"image/png", "image/svg+xml"} for c in code for o in c.get("outputs", []))
    return dict(bodies=bodies, wide=max((len(x) for c in code for x in lines(c["source"])), default=0),
                words=len(prose.split()), laws=len(tests), seen=sum("hide" not in c["directives"] for c in tests),
                public=public, used=used, picture=shown or "](images/" in prose or "](figures/" in prose)


def share(part: int, whole: int) -> str: return f"{part / whole:4.0%}" if whole else "   -"


def table(found: dict[str, dict]) -> str:
    """One line per page, and the whole."""
    out = [f"{'page':34} {'cells':>9} {'wide':>5} {'words':>6} {'laws':>10} {'used':>10}  picture"]
    for name, m in found.items():
        b = m["bodies"]
        out.append(f"{name:34} {statistics.median(b) if b else 0:4.0f} {max(b, default=0):4} {m['wide']:5} "
                   f"{m['words'] / max(sum(b), 1):6.1f} {m['laws']:4} {share(m['seen'], m['laws']):>5} "
                   f"{m['public']:4} {share(m['used'], m['public']):>5}  {'yes' if m['picture'] else '-'}")
    every = [n for m in found.values() for n in m["bodies"]]
    total = {of: sum(m[of] for m in found.values()) for of in ("laws", "seen", "public", "used", "picture")}
    ideas = [m for name, m in found.items() if IDEAS.match(name)]
    words = sum(m["words"] for m in ideas) / max(sum(sum(m["bodies"]) for m in ideas), 1)
    out += ["", f"exported cells: median {statistics.median(every) if every else 0:.0f} lines, "
            f"{sum(n > 40 for n in every)} above 40 (longest {max(every, default=0)})",
            f"pages with a line above 100 columns: {sum(m['wide'] > 100 for m in found.values())}",
            f"words of prose per exported line, rooms 10 to 53: {words:.1f}",
            f"cells that test, in sight: {share(total['seen'], total['laws']).strip()} of {total['laws']}",
            f"definitions used before the next: {share(total['used'], total['public']).strip()} of {total['public']}",
            f"pages with a picture: {total['picture']} of {len(found)}"]
    return "\n".join(out)


if __name__ == "__main__":
    asked = sys.argv[1:]
    print(table({nb.stem: measure(nb) for nb in notebooks() if not asked or nb.name.split("_")[0] in asked}))
