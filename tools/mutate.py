"""Change one thing at a time in the exported code of some rooms, and see whether their own pages notice.

`mutate.py nbs/11_kernels.masks.ipynb` tries 20 changes, taken at random: a boundary (`<` for `<=`), a constant, a default,
`and` for `or`, a sign, a check that never fires. Several pages share the changes evenly. The page, run in a process of
its own, must fail or print something else. First only the cells run that a change can reach by the names they use, and
what those need; what they do not notice is tried on the whole page, then on the pages of `--also` and the tests of
`--pytest`, on a copy of the tree with the change in its module. At the end stands a table: which cell noticed, and why.
A change that survives shows a claim without a test, or a line without effect; some are neither (a faster path that is
no longer taken). The pages must pass as they are: `pytest -k 11_` first.

    mutate.py NB ... [--sample 20] [--seed 0] [--seconds 300] [--also NB ...] [--pytest ARGS] [--cell ID] [--only N ...] [--list]
"""
import argparse
import ast
import json
import os
import random
import re
import resource
import shlex
import shutil
import subprocess
import sys
import symtable
import tempfile
from itertools import chain, islice, zip_longest
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root / "tests"), str(root / "tools")]

from exec_nbs import run_one  # noqa: E402
from notebooks import EXPORT, code, module  # noqa: E402
from test_notebooks import environment, execute, outputs, recorded, shown, stale  # noqa: E402
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
    """Every change of a page's exported code, as (page, id of the cell, its new source, what changed)."""
    for c in code(nb, exported=True):
        source = c["source"]
        for start, end, new in swaps(source):
            changed = source[:start] + new + source[end:]
            try: compile(changed, "cell", "exec")
            except SyntaxError: continue
            line = source[:start].count("\n")
            was, now = (text.splitlines()[line].strip() for text in (source, changed))
            yield nb, c["id"], changed, f"{c['id']}:{line + 1}  {was}  =>  {now}"


def draw(pages: list[Path], n: int, seed: int, cell: str = "") -> list[tuple]:
    """`n` changes, dealt to the pages in turn, so that each has about as many; those of quick pages first."""
    chance = random.Random(seed)
    found = [[m for m in mutants(nb) if cell in ("", m[1])] for nb in pages]
    decks = chance.sample([chance.sample(deck, len(deck)) for deck in found], len(found))
    dealt = islice((m for turn in zip_longest(*decks) for m in turn if m), n)
    return sorted(dealt, key=lambda m: (recorded().get(m[0].name, 0), m[0].name))


# ---- Which cells a change can reach

def reads_and_writes(source: str) -> tuple[set, set]:
    """The names that a cell takes from the cells before it, and those that it binds or changes in place."""
    reads, writes = set(), set()
    for s in ast.parse(source).body:
        top = symtable.symtable(ast.unparse(s), "cell", "exec")
        def below(table): return chain.from_iterable([t, *below(t)] for t in table.get_children())
        bound = {x.get_name() for x in top.get_symbols() if x.is_assigned() or x.is_imported() or x.is_namespace()}
        used = {x.get_name() for x in top.get_symbols() if x.is_referenced()}
        used |= {x.get_name() for table in below(top) for x in table.get_symbols() if x.is_global()}
        own = bound if isinstance(s, (ast.For, ast.With, ast.FunctionDef, ast.ClassDef)) else set()
        reads |= used - writes - own
        writes |= bound
        for n in ast.walk(s):
            changed = n.value if isinstance(n, (ast.Attribute, ast.Subscript)) and isinstance(n.ctx, ast.Store) else None
            if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call): changed = n.value.func
            inside = isinstance(changed, (ast.Attribute, ast.Subscript))
            while isinstance(changed, (ast.Attribute, ast.Subscript)): changed = changed.value
            if isinstance(changed, ast.Name) and (inside or not isinstance(n, ast.Expr)): writes.add(changed.id)
    return reads, writes


def imported(source: str) -> set[str]:
    """The names that a cell imports."""
    found = (n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.Import, ast.ImportFrom)))
    return {a.asname or a.name.split(".")[0] for n in found for a in n.names}


def reach(nb: Path, cell: str) -> list[str]:
    """The cells of a page that use, by name and through others, what a cell defines, and those that they need."""
    page = [c for c in code(nb) if "eval" not in c["directives"]]
    page = [c for c in page if not re.search(r"^\s*[%!]", c["source"], re.M)]  # IPython's own words, as in the cell for Colab
    order, exported = [c["id"] for c in page], {c["id"] for c in page if EXPORT & c["directives"].keys()}
    names = {c["id"]: reads_and_writes(c["source"]) for c in page}
    imports = {c["id"]: imported(c["source"]) for c in page}
    modules = set().union(*imports.values())
    defined = set().union(*(names[i][1] for i in exported - {cell}))
    touched, before = set(names[cell][1]), order[:order.index(cell)]
    run = {cell, *(i for i in before if imports[i])}
    # a first look, at what the page is going to define
    looks = {c["id"] for c in page if c["id"] not in exported and f"from {module(nb)} import" in c["source"]}
    touched |= set().union(*(names[i][1] for i in looks)) - modules
    for _ in order:   # a definition may use what is defined below it, so once is not enough
        size = len(run)
        for i in order:
            if names[i][0] & touched and (i in exported or i not in before or looks):
                run.add(i)
                touched |= names[i][1] - modules - (set() if i in exported else defined)
        wanted = set().union(*(names[i][0] for i in run))
        run.update(i for i in order if names[i][1] & wanted)
        if len(run) == size: break
    return [i for i in order if i in run]


# ---- Running

def child(job: str) -> None:
    """Run some cells of a page with one of them changed; say which one runs, and stop where something else is printed."""
    from execnb.nbio import nb2dict
    from nbdev.clean import clean_nb
    nb, cell, source, only, seconds, changed = json.loads(job)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    saved = outputs(Path(nb))

    def before(c):
        if sys.path[0] != changed: sys.path.insert(0, changed)
        print("@", c.id, file=sys.__stderr__, flush=True)

    def after(c):
        clean_nb(nb2 := {"cells": [c.copy()], "metadata": {}}, clean_ids=True)
        fresh = shown(json.loads(json.dumps(nb2dict(nb2)["cells"], default=dict))).get(c.id, [])
        failed = any(kind == "error" for kind, _, _ in fresh)  # then the error itself is on its way
        if not failed and stale({c.id: saved.get(c.id, [])}, {c.id: fresh}, text=True): sys.exit("it prints something else")
    run_one(Path(nb), only=only, change={cell: source}, before=before, after=after)


def changed_package(nb: Path, cell: str, source: str, into: Path) -> None:
    """The package with the change in its module, since pages import what they are going to define for a first look."""
    shutil.copytree(root / "attnax", into / "attnax")
    py = into.joinpath(*module(nb).split("."))
    py = py / "__init__.py" if py.is_dir() else py.with_suffix(".py")
    def body(text): return re.sub(r"\A(?:#\|.*\n)+", "", text).strip()
    was, = (c["source"] for c in code(nb) if c["id"] == cell)
    text = py.read_text(encoding="utf-8")
    if text.count(body(was)) != 1: raise RuntimeError(f"`{cell}` does not stand in {py.name}: run `nbdev_export`")
    py.write_text(text.replace(body(was), body(source)), encoding="utf-8")


def notice(nb: Path, cell: str, source: str, only: list[str] | None, seconds: int) -> tuple[str, str]:
    """The cell of a page that noticed a change, and why; nothing if none did."""
    cmd = [sys.executable, __file__, "--child", "-"]
    env = environment(nb, root / ".pytest_cache" / "d" / "xla")
    with tempfile.TemporaryDirectory() as t:
        changed_package(nb, cell, source, Path(t))
        job = json.dumps([str(nb), cell, source, only, seconds, t])
        env["PYTHONPATH"] = os.pathsep.join([t, env.get("PYTHONPATH", "")])
        try: r = subprocess.run(cmd, cwd=root, env=env, text=True, input=job, capture_output=True, timeout=10 * seconds)
        except subprocess.TimeoutExpired as e: r, said = None, (e.stderr or b"").decode()
        else: said = r.stderr
    if r and r.returncode == 0: return "", ""
    at = re.findall(r"^@ (\S+)$", said, re.M)
    if not r or r.returncode < 0: return (at or ["(start)"])[-1], f"OUT OF TIME, {seconds} s"
    last = said.strip().splitlines()[-1]
    why = re.findall(r"^ *((?:[\w.]+(?:Error|Exception|Interrupt)\b|it prints).*)$", said, re.M) or [last]
    return (at or ["(start)"])[-1], why[-1][:70]


def copy_of_tree(into: Path) -> Path:
    for name in ("nbs", "attnax", "tools", "tests"): shutil.copytree(root / name, into / name)
    for name in ("settings.ini", "setup.py", "README.md", "pyproject.toml"): shutil.copy(root / name, into / name)
    return into


def export(home: Path) -> None:
    """Write the package of a changed tree."""
    nbdev("nbdev.doclinks:nbdev_export", home)
    modules = (p.relative_to(home) for p in (home / "attnax").rglob("*.py"))
    if all((home / m).read_bytes() == (root / m).read_bytes() for m in modules): raise RuntimeError("the change did not arrive")


def passes(home: Path, nb: str) -> bool:
    """Whether a page of a tree runs, and prints what is saved in it."""
    rc, _, _, out = execute(home / "nbs" / nb, home, root / ".pytest_cache" / "d" / "xla", home=home)
    return rc == 0 and stale(outputs(root / "nbs" / nb), outputs(out), text=True) == []


def holds(home: Path, tests: str) -> bool:
    """Whether some tests of a tree pass."""
    command = [sys.executable, "-m", "pytest", "-qx", *shlex.split(tests)]
    return subprocess.run(command, cwd=home, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


def elsewhere(nb: Path, cell: str, source: str, also: list[Path], tests: str) -> str:
    """What else of a changed tree notices: the name of a page, "pytest", or nothing."""
    with tempfile.TemporaryDirectory() as t:
        home = copy_of_tree(Path(t))
        book = json.loads(nb.read_text(encoding="utf-8"))
        for c in book["cells"]:
            if c["id"] == cell: c["source"] = source.splitlines(keepends=True)
        (home / "nbs" / nb.name).write_text(json.dumps(book), encoding="utf-8")
        export(home)
        for page in also:
            if not passes(home, page.name): return page.name
        return "pytest" if tests and not holds(home, tests) else ""


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("nb", type=Path, nargs="+")
    for name, default in ("--sample", 20), ("--seed", 0), ("--seconds", 300): ask.add_argument(name, type=int, default=default)
    ask.add_argument("--also", type=Path, nargs="*", default=[])
    for name in ("--pytest", "--cell"): ask.add_argument(name, default="")
    ask.add_argument("--only", type=int, nargs="*", help="numbers of the drawn changes, as --list shows them")
    ask.add_argument("--list", action="store_true")
    args = ask.parse_args()
    chosen = list(enumerate(draw([p.resolve() for p in args.nb], args.sample, args.seed, args.cell)))
    if args.only is not None: chosen = [c for c in chosen if c[0] in args.only]
    if args.list: print(*(f"{k:3} {m[0].name.split('.')[0]:14} {m[3]}" for k, m in chosen), sep="\n"); return 0
    if args.also or args.pytest:
        with tempfile.TemporaryDirectory() as t:
            home = copy_of_tree(Path(t))
            bad = [p.name for p in args.also if not passes(home, p.name)]
            if args.pytest and not holds(home, args.pytest): bad.append("pytest")
        if bad: print("fail unchanged:", *bad); return 2
    table = []
    for k, (nb, cell, source, what) in chosen:
        where, why = notice(nb, cell, source, reach(nb, cell), args.seconds)
        if not where or why.startswith("NameError"): where, why = notice(nb, cell, source, None, args.seconds)
        if not where and (args.also or args.pytest): where = elsewhere(nb, cell, source, args.also, args.pytest)
        row = f"{k:3}", nb.name.split("_")[0], " ".join(what.split()), where or "SURVIVED", why
        table.append([x.replace("|", "\\|") for x in row])
        print(*table[-1], sep=" | ", flush=True)
    lived = sum(row[3] == "SURVIVED" for row in table)
    table[:0] = [["", "room", "cell:line, change", "noticed by", "why"], ["---"] * 5]
    print("", *(f"| {' | '.join(row)} |" for row in table), sep="\n")
    print(f"\n{len(chosen)} changes tried, {lived} survived, {sum('OUT OF TIME' in r[4] for r in table)} ran out of time")
    return int(lived > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]: child(sys.stdin.read())
    else: sys.exit(main())
