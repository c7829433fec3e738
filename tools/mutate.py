"""Change one thing at a time in a room's exported code, and see whether the room's own page notices.

`mutate.py nbs/11_kernels.masks.ipynb` tries 20 changes, taken at random: a boundary (`<` for `<=`), a constant, a default,
`and` for `or`, a sign, a check that never fires. The page, run in a process of its own, must fail or print something
else; what survives it is tried on the pages of `--also`, and on the tests of `--pytest`. A change that survives shows a
claim without a test, or a line without effect; some are neither (a faster path that is no longer taken). Takes as long
as the page, times the changes.

    mutate.py NB [-n 20] [--seed 0] [--jobs 1] [--also NB ...] [--pytest ARGS] [--cell ID] [--list]
"""
import argparse
import ast
import json
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root / "tests"), str(root / "tools")]

from notebooks import code  # noqa: E402
from test_notebooks import execute, outputs, stale  # noqa: E402
from test_project import nbdev  # noqa: E402

BOUNDARY = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
            ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in"}
SIGN = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "+", ast.Pow: "*"}


def swaps(source: str):
    """Every single change of a cell, as (start, end, new text) in characters."""
    lines = source.encode().splitlines(keepends=True)
    def at(line, column): return len((b"".join(lines[:line - 1]) + lines[line - 1][:column]).decode())
    def span(n): return at(n.lineno, n.col_offset), at(n.end_lineno, n.end_col_offset)
    def between(a, b, new): return span(a)[1], span(b)[0], f" {new} "
    def annotations(tree):
        for n in ast.walk(tree):
            notes = [getattr(n, "annotation", None), getattr(n, "returns", None)]
            for note in filter(None, notes): yield from ast.walk(note)
    tree = ast.parse(source)
    words = set(map(id, annotations(tree)))
    for n in ast.walk(tree):
        if id(n) in words: continue
        if isinstance(n, ast.Compare) and len(n.ops) == 1:
            yield between(n.left, n.comparators[0], BOUNDARY[type(n.ops[0])])
        if isinstance(n, ast.BoolOp):
            for a, b in zip(n.values, n.values[1:]): yield between(a, b, "or" if isinstance(n.op, ast.And) else "and")
        if isinstance(n, ast.BinOp) and type(n.op) in SIGN and not isinstance(n.left, (ast.JoinedStr, ast.Constant)):
            yield between(n.left, n.right, SIGN[type(n.op)])
        if isinstance(n, ast.UnaryOp) and isinstance(n.op, (ast.Not, ast.USub)): yield span(n)[0], span(n.operand)[0], ""
        if isinstance(n, ast.Constant) and isinstance(n.value, bool): yield *span(n), repr(not n.value)
        elif isinstance(n, ast.Constant) and isinstance(n.value, int): yield *span(n), repr(n.value + 1)
        elif isinstance(n, ast.Constant) and isinstance(n.value, float): yield *span(n), repr(n.value * 2 or 0.5)
        if isinstance(n, ast.If) and any(isinstance(x, ast.Raise) for x in n.body): yield *span(n.test), "False"
        if isinstance(n, ast.IfExp): yield *span(n), source[slice(*span(n.body))]
        if isinstance(n, ast.Call) and n.keywords and n.keywords[-1].arg and (n.args or len(n.keywords) > 1):
            last = n.keywords[-1]
            before = span(n.keywords[-2])[1] if len(n.keywords) > 1 else span(n.args[-1])[1]
            if before < span(last)[0]: yield before, span(last)[1], ""


def mutants(nb: Path):
    """Every change of a page's exported code, as (id of the cell, its new source, what changed)."""
    for c in code(nb, exported=True):
        source = c["source"]
        for start, end, new in swaps(source):
            changed = source[:start] + new + source[end:]
            try: compile(changed, "cell", "exec")
            except SyntaxError: continue
            line = source[:start].count("\n")
            was, now = (text.splitlines()[line].strip() for text in (source, changed))
            yield c["id"], changed, f"{c['id']}:{line + 1}  {was}  =>  {now}"


def passes(home: Path, nb: str, limit: float) -> bool:
    """Whether a page runs, and prints what is saved in it."""
    rc, _, _, out = execute(home / "nbs" / nb, home, root / ".pytest_cache" / "d" / "xla", home=home, limit=limit)
    return rc == 0 and stale(outputs(root / "nbs" / nb), outputs(out), text=True) == []


def copy_of_tree(into: Path) -> Path:
    for name in ("nbs", "attnax", "tools", "tests"): shutil.copytree(root / name, into / name)
    for name in ("settings.ini", "setup.py", "README.md", "pyproject.toml"): shutil.copy(root / name, into / name)
    return into


def export(home: Path) -> None:
    """Write the package of a changed tree."""
    nbdev("nbdev.doclinks:nbdev_export", home)
    modules = (p.relative_to(home) for p in (home / "attnax").rglob("*.py"))
    if all((home / m).read_bytes() == (root / m).read_bytes() for m in modules): raise RuntimeError("the change did not arrive")


def holds(home: Path, tests: str) -> bool:
    """Whether some tests of a tree pass."""
    command = [sys.executable, "-m", "pytest", "-qx", *shlex.split(tests)]
    return subprocess.run(command, cwd=home, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


def try_one(nb: Path, mutant, also, limits, tests: str) -> tuple[str, str]:
    """What noticed a change: the name of a page, "pytest", or nothing."""
    cell, source, what = mutant
    with tempfile.TemporaryDirectory() as t:
        home = copy_of_tree(Path(t))
        book = json.loads(nb.read_text(encoding="utf-8"))
        for c in book["cells"]:
            if c["id"] == cell: c["source"] = source.splitlines(keepends=True)
        (home / "nbs" / nb.name).write_text(json.dumps(book), encoding="utf-8")
        export(home)
        for page in (nb.name, *(p.name for p in also)):
            if not passes(home, page, limits[page]): return page, what
        if tests and not holds(home, tests): return "pytest", what
    return "", what


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("nb", type=Path)
    ask.add_argument("-n", type=int, default=20)
    for name in ("--seed", "--jobs"): ask.add_argument(name, type=int, default=int(name == "--jobs"))
    ask.add_argument("--also", type=Path, nargs="*", default=[])
    for name in ("--pytest", "--cell"): ask.add_argument(name, default="")
    ask.add_argument("--list", action="store_true")
    args = ask.parse_args()
    found = [m for m in mutants(args.nb) if not args.cell or m[2].startswith(args.cell + ":")]
    chosen = random.Random(args.seed).sample(found, min(args.n, len(found)))
    if args.list: print(*(m[2] for m in found), sep="\n"); return 0
    limits = {}
    for page in (args.nb, *args.also):
        with tempfile.TemporaryDirectory() as t:
            start = time.monotonic()
            if not passes(copy_of_tree(Path(t)), page.name, 900): print(f"{page.name} fails unchanged"); return 2
            limits[page.name] = 60 + 4 * (time.monotonic() - start)
    with tempfile.TemporaryDirectory() as t:
        if args.pytest and not holds(copy_of_tree(Path(t)), args.pytest): print("the tests fail unchanged"); return 2
    lived = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for killer, what in pool.map(lambda m: try_one(args.nb, m, args.also, limits, args.pytest), chosen):
            elsewhere = f"  [{killer}]" if killer not in ("", args.nb.name) else ""
            print("died    " if killer else "SURVIVED", what, elsewhere, flush=True)
            lived += not killer
    print(f"{args.nb.name}: {len(chosen)} of {len(found)} changes tried, {lived} survived")
    return int(lived > 0)


if __name__ == "__main__": sys.exit(main())
