"""Run notebooks in place, each in a fresh process, keeping nbdev's skip rules, and clean them.

Cells flagged `#| real_weights PACKAGE` run where the package is installed, and else keep their outputs.

`exec_nbs.py [NB ...]` writes fresh outputs. `exec_nbs.py --check [NB ...]` writes nothing and fails when the saved text
outputs differ from a fresh run (pictures differ between versions of matplotlib, so they are compared by presence).
`exec_nbs.py --serve` is for the tests, which run all of them: it imports once what every page imports.
"""
import gc
import importlib
import importlib.util
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
import zlib
from functools import partial
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("MPLBACKEND", "agg")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["IN_TEST"] = "1"


def lacks_weights(names) -> bool:
    """Whether a cell flagged `#| real_weights PACKAGE ...` has to be skipped, because a package is not installed."""
    return any(importlib.util.find_spec(name) is None for name in names)


def run_one(src: Path, dest: Path | None = None, only=None, change=None, before=None, after=None) -> None:
    """Run a notebook and write it with fresh outputs; `mutate.py` changes a cell, runs a few, and looks at each."""
    from execnb.nbio import read_nb, write_nb
    from execnb.shell import CaptureShell
    from nbdev.clean import clean_nb
    from nbdev.config import get_config
    from nbdev.frontmatter import FrontmatterProc
    from nbdev.process import NBProcessor

    cfg = get_config()
    flags = set(cfg.tst_flags.split())
    directives = NBProcessor(src, procs=FrontmatterProc, process=True).nb
    nb = read_nb(src)
    ids = [c.get("id") for c in nb.cells]
    for c in nb.cells: c["source"] = (change or {}).get(c.get("id"), c["source"])

    def skip(cell):
        if cell.cell_type != "code" or only is not None and cell.id not in only: return True
        d = getattr(directives.cells[cell.idx_], "directives_", {}) or {}
        if "real_weights" in d: return lacks_weights(d["real_weights"])   # nbdev_test skips them always
        return d.get("eval:", [""])[0].lower() == "false" or bool(flags & d.keys())

    for c in nb.cells:
        if not skip(c): c["outputs"] = []  # a cell that prints nothing now would keep what it printed before
    shell = CaptureShell(src)
    sys.path.insert(0, str(cfg.config_path))
    os.chdir(src.parent)
    def preproc(cell):
        if skip(cell): return True
        if before: before(cell)
    shell.run_all(nb, exc_stop=True, preproc=preproc, postproc=after or (lambda cell: None))
    if dest is None: return
    clean_nb(nb, clean_ids=True, allowed_metadata_keys=cfg.get("allowed_metadata_keys").split())
    for c, i in zip(nb.cells, ids): c["id"] = i
    write_nb(nb, dest)


def text_outputs(path: Path) -> list:
    """The outputs of each cell, with pictures replaced by their kind."""
    out = []
    for c in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for o in c.get("outputs", []):
            data = {k: (v if k.startswith("text/") and "image/png" not in o.get("data", {}) else None)
                    for k, v in o.get("data", {}).items()}
            out.append((c["id"], o.get("name"), o.get("text"), data))
    return out


def reuse_contexts(times: int = 10) -> None:
    """Let the programs of the main thread share what MLIR keeps of them, ten at a time, as later releases of JAX do. In 0.10
    each gets a context of its own, and making one takes a fifth of the time of a small program."""
    from jax._src.interpreters import mlir
    if hasattr(mlir, "_thread_local_context"): return
    make, made = mlir.make_ir_context, []
    def reused():
        # XLA's own threads ask in the midst of a compilation, and may end with it
        if threading.current_thread() is not threading.main_thread(): return make()
        if len(made) % times == 0: made[:] = [make()]
        else: made.append(made[0])
        return made[0]
    mlir.make_ir_context = reused


def store_uncompressed() -> None:
    """Let JAX write what it compiled as it is: most of it is read once or never, and zlib's best effort on all of it takes a
    hundredth of the time. What was compressed before can still be read."""
    from jax._src import compilation_cache
    if getattr(compilation_cache, "zlib", None) is zlib:
        compilation_cache.zlib = SimpleNamespace(compress=partial(zlib.compress, level=0), decompress=zlib.decompress)


def compare_as_wholes() -> None:
    """Let fastcore's `test_eq` compare bytes, and arrays of JAX, as it does text and numpy's arrays: in one step. It walks
    through them number by number, which for an array is a program of JAX each: up to a tenth of a page's time. Arrays must
    have the same shape, as in that walk."""
    import fastcore.imports
    import fastcore.test
    import jax
    import numpy as np
    piecewise = fastcore.imports.equals
    def plain(x):
        return (isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)
                and not jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended))
    def equals(a, b):
        if isinstance(a, bytes) and isinstance(b, bytes): return a == b
        return bool(np.array_equal(a, b)) if plain(a) and plain(b) else piecewise(a, b)
    fastcore.imports.equals = fastcore.test.equals = equals  # the first is asked for what is in lists


def optimize_weights_alone(cell) -> None:
    """Before a cell: LLVM optimizes its programs if it runs real weights, which compute for longer than they compile."""
    import jax
    jax.config.update("jax_disable_most_optimizations", "#| real_weights" not in cell.source)


EVERY_PAGE = ("flax.nnx optax matplotlib.pyplot fastcore.test nbdev.showdoc jax.experimental.pallas.tpu "
              "execnb.nbio execnb.shell nbdev.clean nbdev.frontmatter nbdev.process").split()


def import_all() -> None:
    """Import what pages import: other packages, and every module of attnax, none of which starts a device."""
    import attnax
    ours = [m.name for m in pkgutil.walk_packages(attnax.__path__, "attnax.") if not m.name.endswith("__main__")]
    for name in (*EVERY_PAGE, *ours): importlib.import_module(name)


def serve() -> None:
    """Run the notebooks that come in, one a line of JSON, each in a fork that begins after these imports. Answers with the
    number of the process, and then its exit code and the seconds of CPU that it took."""
    import_all()
    reuse_contexts()
    store_uncompressed()
    compare_as_wholes()
    gc.collect()
    gc.freeze()  # what all share is not searched for garbage again
    gc.set_threshold(50_000, 20, 20)  # tracing makes millions of small objects, few of them in circles
    for line in sys.stdin:
        job = json.loads(line)
        if pid := os.fork():
            print(pid, flush=True)
            _, status, used = os.wait4(pid, 0)
            print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, flush=True)
            continue
        os.setsid()
        said = os.open(job["said"], os.O_WRONLY | os.O_CREAT)
        for here, there in ((os.open(os.devnull, os.O_RDONLY), 0), (said, 1), (said, 2)): os.dup2(here, there)
        os.environ.update(job["variables"])  # what XLA reads when it is first used
        return run_one(Path(job["nb"]), Path(job["out"]), before=optimize_weights_alone if job["weights_alone"] else None)


def main(args: list[str]) -> int:
    check, bad = "--check" in args, []
    nbs = [Path(a).resolve() for a in args if not a.startswith("-")] or sorted(Path("nbs").resolve().glob("[!._]*.ipynb"))
    for f in nbs:
        with tempfile.TemporaryDirectory() as t:
            out = Path(t) / f.name
            if subprocess.run([sys.executable, __file__, "--one", str(f), str(out)]).returncode:
                bad.append(f"{f.name}: failed")
            elif check:
                if text_outputs(out) != text_outputs(f): bad.append(f"{f.name}: saved outputs are stale")
            elif out.read_bytes() != f.read_bytes():
                f.write_bytes(out.read_bytes())
                print("updated", f.name)
    if bad: print("\n".join(bad), file=sys.stderr)
    return len(bad)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which what a shell starts in the background ignores; pages send it
    if sys.argv[1:2] == ["--one"]: run_one(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:] == ["--serve"]: serve()
    else: sys.exit(min(main(sys.argv[1:]), 1))
