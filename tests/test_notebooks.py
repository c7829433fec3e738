"""Every notebook is a test: it runs in a process of its own, and prints what the page says that it prints.

nbdev's own rules say which cells are skipped; they are counted and named at the end of the run. Saved outputs are
compared with those of the run. Numbers differ in their last digits between processors, so floats may differ by 1 %, or
by one in the last digit that is shown; everything else must be equal, pictures only there. Under other versions of the
libraries than those in `recorded_with.txt` the text may differ too: then only *which* cells print something is compared.

    pytest tests/test_notebooks.py -k 20_        # one room
    pytest -m internals                          # what rests on JAX's and Flax's insides, for another release of them
    pytest tests/test_notebooks.py --record      # write down how long each one takes: the longest start first
    python tests/test_notebooks.py               # after `tools/exec_nbs.py` on newer libraries: record their versions
"""
import json
import math
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Timer

import conftest
import exec_nbs
import pytest
from notebooks import code, notebooks, root

TIMEOUT = 900  # seconds for one notebook; a normal one takes below 30
recorded_with = Path(__file__).parent / "recorded_with.txt"
seconds_file = Path(__file__).parent / "seconds.txt"  # a line per notebook, longest first
packages = ("jax", "flax", "numpy")
float_re = re.compile(r"[-+]?\d+\.\d*(?:e[-+]?\d+)?|[-+]?\d+e[-+]?\d+")


# ---- Which rooms another release of JAX or Flax can break in ways of its own

# What moves between releases, and the page whose laws rest on it most; the first page and the command use all of it, and
# the rooms that do the same things once more (a kernel's layouts, a family's layers, benchmarks) use it by way of these
INSIDES = {
    "jaxprs and their primitives": "11a_ 12_ 14_",
    "a primitive's derivatives, batching and partitioning, and loops with theirs under the contract of a kernel": "16_ 21_ 25_",
    "Pallas, its interpreter, and lowering for other platforms": "22_ 23_ 28a_",
    "meshes, shard_map and types that say what varies": "08_ 26a_ 45_ 62d_",
    "state of modules split, merged, scanned and traced without numbers": "36a_ 41_ 44_ 67_",
    "loops that generate, and programs that must be compiled once": "51a_ 86_",
    "optimizers and checkpoints": "62b_ 62c_"}


def rests_on_internals(nb: Path) -> bool:
    """Whether a page shows something that a release of JAX or Flax can change."""
    return nb.name.startswith(tuple(" ".join(INSIDES.values()).split()))


# ---- Running

# Pages whose programs are compiled as users' are: the first guide, which attends, trains and generates; training; real
# weights and the tutorials, which compute for longer than they compile. The others are many small programs, of whose time
# LLVM's optimizations, no part of JAX or attnax, would take the most
OPTIMIZED = re.compile(r"00_|64_|76e_|8[0-4]_|87[ab]_|index")
# Of these, those with large programs: optimized, and compiled in two thirds of the time
IN_ONE_PART = re.compile(r"76e_|84_|87[ab]_|index")
# Of these, those where it is the cells of real weights that compute
WEIGHTS_ALONE = re.compile(r"76e_|87[ab]_|index")


def recorded() -> dict[str, float]:
    """Seconds of CPU that each notebook took when they were written down."""
    lines = seconds_file.read_text(encoding="utf-8").split("\n") if seconds_file.exists() else []
    return {name: float(t) for t, name in (line.split() for line in lines if line and line[0] != "#")}


def compiled_in(folder: Path) -> dict[str, str]:
    """Variables that let processes share what they compile: much of the time goes into small programs, many of them alike."""
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0"}


def environment(nb: Path, compiled: Path) -> dict[str, str]:
    """The variables under which a page runs: no screen, a CPU, what was compiled before, and the compiler that suits it."""
    flags = conftest.users_flags if OPTIMIZED.match(nb.name) else os.environ["XLA_FLAGS"]
    if IN_ONE_PART.match(nb.name): flags = conftest.optimized_flags
    return {**os.environ, "JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg", "XLA_FLAGS": flags, **compiled_in(compiled)}


def execute(nb: Path, folder: Path, compiled: Path, home: Path = root, limit: float = TIMEOUT) -> tuple[int, str, float, Path]:
    """Run one notebook of a tree: exit code, what it wrote to the terminal, seconds, and the notebook with fresh outputs."""
    out, start = folder / nb.name, time.monotonic()
    cmd = [sys.executable, str(home / "tools" / "exec_nbs.py"), "--one", str(nb), str(out)]
    env = environment(nb, compiled)
    try: r = subprocess.run(cmd, cwd=home, env=env, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired: return 1, f"still running after {limit:.0f} seconds", limit, out
    return r.returncode, r.stdout + r.stderr, time.monotonic() - start, out


class Pages:
    """Runs notebooks as `execute` does, one after the other, each in a process of its own that has the imports of all behind
    it: a fork of one that has done nothing else."""
    def __init__(self, folder: Path, compiled: Path):
        self.folder, self.compiled = folder, compiled
        self.process = subprocess.Popen(
            [sys.executable, str(root / "tools" / "exec_nbs.py"), "--serve"], cwd=root, text=True, bufsize=1,
            env=environment(Path(), compiled), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def execute(self, nb: Path) -> tuple[int, str, float, Path]:
        """As `execute` answers, but in seconds of CPU, which are the same on a busy machine."""
        out, said = self.folder / nb.name, self.folder / f"{nb.stem}.txt"
        job = dict(nb=str(nb), out=str(out), said=str(said), weights_alone=bool(WEIGHTS_ALONE.match(nb.name)),
                   variables={"XLA_FLAGS": environment(nb, self.compiled)["XLA_FLAGS"]})
        self.process.stdin.write(json.dumps(job) + "\n")
        late = Timer(TIMEOUT, os.killpg, (int(self.process.stdout.readline()), signal.SIGKILL))
        late.start()
        rc, seconds = self.process.stdout.readline().split()
        late.cancel()
        return int(rc), said.read_text(encoding="utf-8", errors="replace"), float(seconds), out

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def start_all(request, tmp_path_factory):
    """All chosen notebooks, two at a time, since much of a run is one thread that traces and compiles; longest first.

    They start with the session: while they run, the other tests do too. When these are through, a third is run beside the
    two, for some pages wait: for servers, for other processes, for a disk.
    """
    chosen = [i.callspec.params["nb"] for i in request.session.items if getattr(i, "originalname", "") == "test_notebook"]
    took = recorded()
    chosen.sort(key=lambda nb: -took.get(nb.name, math.inf))  # one that is not written down might be the longest
    folder, compiled, turns = tmp_path_factory.mktemp("nbs"), request.config.cache.mkdir("xla"), queue.SimpleQueue()
    pool = ThreadPoolExecutor(3, initializer=turns.get)  # a worker begins when there is a turn for it
    for _ in range(2): turns.put(None)
    if hasattr(os, "fork") and chosen:
        servers, mine = [], threading.local()
        def run(nb):
            if not hasattr(mine, "pages"):
                mine.pages = Pages(folder, compiled)
                servers.append(mine.pages)
            return mine.pages.execute(nb)
    else: servers, run = [], partial(execute, folder=folder, compiled=compiled)
    jobs = {nb: pool.submit(run, nb) for nb in chosen}
    def wait_for(nb):
        if turns.empty(): turns.put(None)
        return jobs[nb].result()
    yield wait_for
    turns.put(None)
    pool.shutdown(cancel_futures=True)
    for pages in servers: pages.close()
    times = sorted(((job.result()[2], nb.name) for nb, job in jobs.items() if job.done() and not job.cancelled()), reverse=True)
    conftest.notes += [f"{seconds:5.0f} s  {name}" for seconds, name in times]
    if times: conftest.notes.append(f"{sum(t for t, _ in times):5.0f} s  of CPU in all")
    if request.config.getoption("--record"):
        top = "# Seconds of CPU per notebook: pytest tests/test_notebooks.py --record"
        lines = [top, *(f"{t:.0f} {name}" for t, name in times)]
        seconds_file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def skipped(nb: Path) -> Counter:
    """The cells that nbdev skips, by the flag that says so."""
    from nbdev.config import get_config
    flags = set(get_config(cfg_name="settings.ini", path=root).tst_flags.split())
    found = Counter()
    for c in code(nb):
        d = c["directives"]
        if "real_weights" in d and not exec_nbs.lacks_weights(d["real_weights"].split()): continue
        found.update(sorted(flags & d.keys())[:1] or (["eval: false"] if d.get("eval", "").strip().lower() == "false" else []))
    return found


# ---- Comparing

def outputs(path: Path) -> dict[str, list]:
    """What each cell of a saved page printed or showed."""
    return shown(json.loads(path.read_text(encoding="utf-8"))["cells"])


def shown(cells: list[dict]) -> dict[str, list]:
    """What cells printed or showed, pictures as a mark that there is one; the address of a warning's line is noise."""
    found = {}
    for c in cells:
        for o in c.get("outputs", []):
            data = o.get("data", {})
            picture = any(k.startswith("image/") for k in data)
            text = {k: "".join(v) for k, v in data.items() if k.startswith("text/")}
            what = (o["output_type"], o.get("name"), "picture" if picture else text or "".join(o.get("text", "")))
            found.setdefault(c["id"], []).append(what)
    return found


def step_of(text: str) -> float:
    """One step of the last digit that a printed float shows behind its point; none where it shows a whole number, as `2.`"""
    digits, _, power = text.partition("e")
    behind = len(digits.partition(".")[2])
    return 10.0 ** (int(power or 0) - behind) if behind else 0.0


def close(x: str, y: str) -> bool:
    """Whether two printed floats are equal to 1 %, or were rounded to neighbours: 2.849 and 2.851 may show as 2.8 and 2.9."""
    a, b = float(x), float(y)
    return math.isclose(a, b, rel_tol=1e-2, abs_tol=1e-5) or abs(a - b) < 1.5 * step_of(x) and step_of(x) == step_of(y)


def same(a: str, b: str) -> bool:
    """Whether two printed texts are equal up to spacing and to what `close` allows in each float."""
    words = [float_re.sub("#", " ".join(t.split())).replace(" ", "") for t in (a, b)]
    return words[0] == words[1] and all(map(close, float_re.findall(a), float_re.findall(b)))


def here() -> str:
    def of(name):
        try: return version(name)
        except PackageNotFoundError: return "none"
    return "".join(f"{name}=={of(name)}\n" for name in packages)


def stale(saved: dict, fresh: dict, text: bool) -> list[str]:
    """The cells whose saved outputs are not those of a fresh run."""
    kind = lambda outs: [(t, n) for t, n, _ in outs if n != "stderr"]
    bad = [i for i in {**saved, **fresh} if kind(saved.get(i, [])) != kind(fresh.get(i, []))]
    if text:
        bad += [i for i, outs in saved.items() if i not in bad
                for (_, n, a), (_, _, b) in zip(outs, fresh.get(i, [])) if n != "stderr" and not same(str(a), str(b))]
    return bad


# ---- The tests

def test_comparison_sees_differences():
    assert same("[1.  0.5]", "[1. 0.5004]") and same("loss 2.31e-08", "loss 0.1e-08")
    assert same("2.8 nats", "2.9 nats") and same("1.2e-07", "1.3e-07")
    for a, b in [("12 pages", "13 pages"), ("0.5", "0.52"), ("True", "False"), ("1.0", "1.0 2.0"), ("2.8", "3.0"),
                 ("2.84", "2.91"), ("[1. 2.]", "[1. 3.]")]:
        assert not same(a, b)
    one, two = {"a": [("stream", "stdout", "x 1.0")]}, {"a": [("stream", "stdout", "y 1.0")]}
    assert stale(one, one, True) == [] and stale(one, two, True) == ["a"] and stale(one, two, False) == []
    assert stale(one, {}, False) == ["a"] and stale({}, one, False) == ["a"]


def test_wholes_see_differences(monkeypatch):
    """`test_eq` on a page of the suite: what is compared in one step is told apart as number by number."""
    import fastcore.imports
    import fastcore.test
    import jax.numpy as jnp
    for module in (fastcore.imports, fastcore.test): monkeypatch.setattr(module, "equals", module.equals)   # put back later
    exec_nbs.compare_as_wholes()
    x = jnp.arange(6.0).reshape(2, 3)
    fastcore.test.test_eq([x, b"ab", {"a": 1}], [x + 0, b"ab", {"a": 1}])
    for a, b in ((x, x.at[1, 2].set(0)), (x, x[:1]), (x, x[0]), ([x], [x[:1]]), (x * jnp.nan, x * jnp.nan), (b"ab", b"ac"),
                 ((1, b"ab"), (1, b"a"))):
        with pytest.raises(AssertionError): fastcore.test.test_eq(a, b)


def parameter(nb: Path):
    return pytest.param(nb, id=nb.stem, marks=[pytest.mark.internals] if rests_on_internals(nb) else [])


@pytest.mark.parametrize("nb", [parameter(nb) for nb in notebooks()])
def test_notebook(nb, runs):
    rc, said, seconds, out = runs(nb)
    if found := skipped(nb): conftest.notes.append(f"{nb.name} skips " + ", ".join(f"{n} x {flag}" for flag, n in found.items()))
    tail = "\n".join(said.splitlines()[-40:])
    if rc: pytest.fail(f"{nb.name} failed after {seconds:.0f} s; the end of what it said:\n\n{tail}", pytrace=False)
    bad = stale(outputs(nb), outputs(out), text=recorded_with.read_text() == here())
    if bad: pytest.fail(f"a fresh run prints something else in {bad}: python tools/exec_nbs.py nbs/{nb.name}", pytrace=False)


def test_report():
    """Not a check: the closing report says how much was run and compared."""
    cells = sum(len(code(nb)) for nb in notebooks())
    skips = sum(skipped(nb).total() for nb in notebooks())
    notes = [f"{len(notebooks())} notebooks, {cells} code cells, {skips} of them skipped by flags"]
    if (then := recorded_with.read_text()) != here():
        notes.append(f"printed text not compared: recorded with {' '.join(then.split())}, here {' '.join(here().split())}")
    conftest.notes[:0] = notes


if __name__ == "__main__": recorded_with.write_text(here())
