"""A run goes on from its last checkpoint as if nothing had happened: on other meshes, with layers in a list or in a stack, with
another number of processes, and after it was killed at any moment, while a checkpoint was being written too.

ATTNAX_RESUME=all kills at every second touch of the file system and forty times at random, and goes on with more meshes, where
a short form takes a few.
"""
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import resume_runs
from flax import nnx
from resume_runs import Stream, begin, pair

from attnax.training import checkpoints
from attnax.training.checkpoints import Checkpoints
from attnax.training.sharding import batch_sharding, make_training_mesh, shard
from attnax.training.step import make_train_step

pytestmark = pytest.mark.skipif(len(jax.devices()) < 8, reason="needs eight devices")
everything = os.environ.get("ATTNAX_RESUME") == "all"


def by_name(model, optimizer, mean) -> dict[str, np.ndarray]:
    """Every array of a run by the name that it has where layers are in a list."""
    held = checkpoints._held(model, {"model": model, "optimizer": optimizer, "average": mean})
    return {name: np.asarray(checkpoints._plain(leaf.value))[i if leaf.stacked else ...]
            for leaf in checkpoints._flat(held) for i, name in enumerate(leaf.names)}


def same(got, want):
    assert got.keys() == want.keys()
    for name in want: np.testing.assert_array_equal(got[name], want[name], err_msg=name, strict=True)


def variables(run) -> list[nnx.Variable]: return jax.tree.leaves(nnx.state(run), is_leaf=lambda x: isinstance(x, nnx.Variable))


def laid(words: str | None, run):
    """A run, or the shapes of one, over a mesh."""
    if words is None: return run
    count = int(np.prod([int(word.split("=")[1]) for word in words.split(",")]))
    return shard(run, make_training_mesh(words, devices=jax.devices()[:count]))


train_step, move = make_train_step(resume_runs.loss), nnx.jit(lambda mean, model: mean.update(model))


def steps(run, mesh, stream, n) -> list[float]:
    """Losses of the next steps."""
    losses = []
    for _ in range(n):
        batch = next(stream)
        if mesh is not None: batch = jax.device_put(batch, batch_sharding(mesh))
        losses.append(float(train_step(*run[:2], batch).loss))
        move(run[2], run[0])
    return losses


MESHES = "fsdp=2,tensor=4", None, "fsdp=8"
if everything: MESHES += "fsdp=8,tensor=1", "data=2,fsdp=2,tensor=2"


@pytest.fixture(scope="module")
def from_4x2(tmp_path_factory):
    """A folder with a checkpoint that a mesh of 4 x 2 devices wrote, what was in it, and the losses that followed."""
    folder, mesh = tmp_path_factory.mktemp("4x2"), make_training_mesh("fsdp=4,tensor=2")
    run, stream = shard(begin(), mesh), Stream()
    with Checkpoints(folder) as kept:
        steps(run, mesh, stream, 2)
        want = by_name(*run)
        kept.save(2, *run[:2], average=run[2])
        losses = steps(run, mesh, stream, 3)
    return folder, want, losses


@pytest.mark.parametrize("scan", [True, False], ids=["scanned", "unrolled"])
def test_restores_on_other_meshes_bit_for_bit(from_4x2, scan):
    """Values are those that were written; arrays lie where the model's lay, or where its shapes said."""
    folder, want, _ = from_4x2
    with Checkpoints(folder) as kept:
        for words in MESHES:
            for real in (False, True) if everything or words == MESHES[0] else (False,):
                run = laid(words, begin(scan_layers=scan) if real else nnx.eval_shape(lambda: begin(scan_layers=scan)))
                place = [x.get_value() for x in variables(run)]
                kept.restore(*run[:2], average=run[2])
                same(by_name(*run), want)
                for x, y in zip(place, (x.get_value() for x in variables(run)), strict=True):
                    if x.sharding is not None: assert y.sharding.is_equivalent_to(x.sharding, y.ndim)


def test_goes_on_where_it_was(from_4x2):
    """On the same mesh losses are the same bits; on another they agree up to the order of additions."""
    folder, _, want = from_4x2
    cases = [("fsdp=4,tensor=2", True)]
    if everything: cases += [(words, scan) for words in MESHES for scan in (True, False)]
    for words, scan in cases:
        run, stream = laid(words, nnx.eval_shape(lambda scan=scan: begin(scan_layers=scan))), Stream()
        with Checkpoints(folder) as kept: kept.restore(*run[:2], average=run[2])
        for _ in range(2): next(stream)
        got = steps(run, None if words is None else make_training_mesh(words), stream, 3)
        if (words, scan) == cases[0]: assert got == want
        else: np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_full_copy_is_never_held_twice(tmp_path, monkeypatch):
    """A stack that is read into a list of shapes: what is in memory never exceeds what was asked for by more than is read at a
    time; and writing makes no array at all."""
    words = dict(d_model=128, num_layers=6)
    run = begin(**words)
    arrays, _ = checkpoints._written(checkpoints._held(run[0], dict(model=run[0], optimizer=run[1], average=run[2])))
    there = {id(x.get_value()) for x in variables(run)}
    assert all(id(x) in there for x in arrays.values() if x.dtype == np.float32)
    with Checkpoints(tmp_path) as kept: kept.save(1, *run[:2], average=run[2])
    whole, largest = sum(x.nbytes for x in arrays.values()), max(x.nbytes for x in arrays.values())
    del run, arrays, there
    monkeypatch.setattr(checkpoints, "_AT_ONCE", 2**20)
    seen, make = [], checkpoints._made_of
    def spy(*args):
        out = make(*args)
        seen.append(sum(x.nbytes for x in jax.live_arrays()))
        return out
    monkeypatch.setattr(checkpoints, "_made_of", spy)
    shapes, before = nnx.eval_shape(lambda: begin(**words, scan_layers=False)), sum(x.nbytes for x in jax.live_arrays())
    with Checkpoints(tmp_path) as kept: kept.restore(*shapes[:2], average=shapes[2])
    assert max(seen) - before < whole + 2 * max(2**20, largest), (max(seen) - before, whole)


def started(kind: str, **words) -> subprocess.Popen:
    """A run in a process of its own, which says how far it is."""
    command = [sys.executable, resume_runs.__file__, kind, json.dumps(words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})


def said(run: subprocess.Popen):
    """What it says until it ends, killed or not."""
    for line in run.stdout: yield line.split()
    assert run.wait(60) in (0, -signal.SIGKILL)


def check_folder(folder: Path, least: int):
    """Every checkpoint that is listed is whole, the last that was said to be is not lost, and writing goes on."""
    with Checkpoints(folder, background=False) as kept:
        found = kept.steps
        assert found and found[-1] >= least, (found, least)
        for step in found:
            run = pair(0)
            assert kept.restore(*run, step=step).step == step
            assert all(a.same(b) for a, b in zip(run, pair(step))), step
        kept.save(100, *pair(100))
        assert kept.steps[-1] == 100
    left = [p.name for p in folder.iterdir() if not p.name.isdigit()]
    assert not left, left


def killed(folder, delay=None, **words) -> tuple[bool, int, float]:
    """Whether a run was killed, after `delay` seconds from its first checkpoint on; the last checkpoint that it said was whole;
    and how long it wrote."""
    run, last, done, start = started("write", folder=str(folder), **words), 0, False, time.monotonic()
    for what, *more in said(run):
        if what == "whole":
            if not last: start = time.monotonic()
            if not last and delay is not None:
                time.sleep(delay)
                run.kill()
            last = int(more[0])
        done = done or what == "done"
    return not done, last, time.monotonic() - start


@pytest.mark.parametrize("background", [True, False] if everything else [True], ids=["background", "waiting"][:1 + everything])
def test_killed_while_it_writes(tmp_path, background):
    """At random moments, by the clock."""
    dice, hits, took = random.Random(0), 0, 0.5
    if everything: took = killed(tmp_path / "whole", background=background, last=8)[2]
    for i in range(40 if everything else 1):
        folder = tmp_path / str(i)
        was, last, _ = killed(folder, dice.uniform(0, took), background=background, last=8 if everything else 100)
        hits += was
        check_folder(folder, last)
    assert hits, "every run was over before it was killed"
    print(f"{hits} runs killed")


@pytest.mark.parametrize("background", [True, False] if everything else [False], ids=["background", "waiting"][not everything:])
def test_killed_at_a_touch_of_the_file_system(tmp_path, background):
    """At the n-th file that is opened, made, renamed or deleted, as far as Python sees it."""
    for event in range(1, 10**6, 2) if everything else (70 + 40 * background,):
        was, last, _ = killed(tmp_path / str(event), background=background, last=4, event=event)
        check_folder(tmp_path / str(event), last)
        if not was: break
    print(f"killed at {event} events")
    assert everything or was


def test_losses_of_a_run_that_was_killed(tmp_path):
    """Bit for bit those of a run that was not, the order of its data, its dropout and its mean included."""
    words = dict(cache=str(tmp_path / "cache"), steps=200 if everything else 32)
    told = list(said(started("train", folder=str(tmp_path / "whole"), **words)))
    want = {int(more[0]): more[1] for what, *more in told if what == "loss"}
    assert list(want) == list(range(1, words["steps"] + 1))
    dice, starts = random.Random(1), []
    for _ in range(10 if everything else 1):
        run, at = started("train", folder=str(tmp_path / "killed"), **words), dice.randint(9, 20)
        for what, *more in said(run):
            if what == "from": starts.append(int(more[0]))
            if what != "loss": continue
            step = int(more[0])
            assert want[step] == more[1], step
            if step == min(starts[-1] + at, words["steps"] - 1):
                time.sleep(dice.uniform(0, 0.05))
                run.kill()
    *rest, last, mean, done = said(started("train", folder=str(tmp_path / "killed"), **words))
    starts.append(int(rest[0][1]))
    assert all(want[int(more[0])] == more[1] for what, *more in (*rest, last) if what == "loss")
    assert [mean, done] == told[-2:]
    assert sorted(starts) == starts and starts[-1] > 0, starts
    print("runs began at", *starts)


PROCESS = """
import sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
_, address, number, theirs, ours, n, tests = sys.argv
jax.distributed.initialize(address, num_processes=2, process_id=int(number))
sys.path.insert(0, tests)
import hashlib
import numpy as np
from flax import nnx
from jax.experimental.multihost_utils import process_allgather
import resume_runs
from attnax.training import checkpoints
from attnax.training.checkpoints import Checkpoints
from attnax.training.sharding import batch_sharding, make_training_mesh, shard
from attnax.training.step import make_train_step

assert (jax.process_count(), jax.device_count(), jax.local_device_count()) == (2, 8, 4)
mesh = make_training_mesh("fsdp=8")
def digest(model, optimizer, mean):
    held = checkpoints._held(model, {"model": model, "optimizer": optimizer, "average": mean})
    out = {leaf.place: process_allgather(checkpoints._plain(leaf.value), tiled=True) for leaf in checkpoints._flat(held)}
    return hashlib.sha256(b"".join(np.asarray(out[name]).tobytes() for name in sorted(out))).hexdigest()

run, stream = shard(resume_runs.begin(), mesh), resume_runs.Stream()
with Checkpoints(theirs) as kept: told = kept.restore(*run[:2], average=run[2])
print("read", told.step, digest(*run), flush=True)

run = shard(resume_runs.begin(), mesh)
step, move = make_train_step(resume_runs.loss), nnx.jit(lambda mean, model: mean.update(model))
with Checkpoints(ours) as kept:
    for at in range(1, int(n) + 1):
        rows = next(stream)
        batch = jax.make_array_from_callback(rows.shape, batch_sharding(mesh), lambda i: rows[i])
        print("loss", float(step(*run[:2], batch).loss).hex(), flush=True)
        move(run[2], run[0])
        if at == 2: kept.save(2, *run[:2], average=run[2], data={"at": 2})
        if at == 2: print("wrote", digest(*run), flush=True)
        if at == 4: kept.save(4, *run[:2], average=run[2], data={"at": 4})
jax.distributed.shutdown()
"""


def digest(model, optimizer, mean) -> str:
    """Of all arrays as they lie."""
    held = checkpoints._held(model, {"model": model, "optimizer": optimizer, "average": mean})
    arrays = {leaf.place: np.asarray(checkpoints._plain(leaf.value)) for leaf in checkpoints._flat(held)}
    return hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()


def test_two_processes(tmp_path):
    """What one process wrote on 4 x 2 devices two read over 8, and the other way around; losses of 20 steps with weights cut over
    both processes are those of one device."""
    theirs, ours, n = tmp_path / "one", tmp_path / "two", 20
    run, stream = shard(begin(), make_training_mesh("fsdp=4,tensor=2")), Stream()
    steps(run, make_training_mesh("fsdp=4,tensor=2"), stream, 1)
    with Checkpoints(theirs) as kept: kept.save(1, *run[:2], average=run[2])
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    words = [address, "{}", str(theirs), str(ours), str(n), str(Path(__file__).parent)]
    each = [subprocess.Popen([sys.executable, "-c", PROCESS, *words[:1], str(i), *words[2:]], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for i in range(2)]
    one = begin()
    want = steps(one, None, Stream(), n)
    try: said = [p.communicate(timeout=300)[0] for p in each]
    finally:
        for p in each: p.kill()
    for p, text in zip(each, said, strict=True):
        assert p.returncode == 0, text[-3000:]
        told = [line.split() for line in text.splitlines() if line.strip()]
        assert ["read", "1", digest(*run)] in told
        losses = [float.fromhex(more[0]) for what, *more in told if what == "loss"]
        np.testing.assert_allclose(losses, want, rtol=1e-5)
    wrote = next(more[0] for what, *more in told if what == "wrote")
    for words in (None, "fsdp=2,tensor=4"):
        again = laid(words, nnx.eval_shape(begin))
        with Checkpoints(ours) as kept:
            assert kept.steps == [2, 4] and kept.restore(*again[:2], average=again[2], step=2).data == {"at": 2}
        assert digest(*again) == wrote
