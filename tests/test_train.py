"""A run of `attnax train` that is killed with SIGKILL makes the updates of one that is not, bit for bit; two processes make those
of one.

Two kills in CI; `ATTNAX_RESUME=all` for ten, for adapters, for meshes and for several processes. Each kill comes at a chosen
moment of a chosen update, wherever the process is then: in a step, in a write of a checkpoint, in a line of the metrics.
"""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from attnax.training.run import TrainSettings, run_training
from attnax.training.step import Recipe
from attnax.training.text import the_tempest

everything = os.environ.get("ATTNAX_RESUME") == "all"
STEPS, KILLS = 24, 10 if everything else 2
# dropout, a running mean, parts of a batch, two texts: all that has a state
OPTIONS = ["--model", "model.json", "--context", "48", "--batch", "8", "--save-every", "4", "--average", "0.9",
           "--accumulate", "2", "--learning-rate", "0.01", "--steps", str(STEPS)]
CONFIG = {"d_model": 32, "num_heads": 2, "num_layers": 2, "d_ff": 64, "pos_emb_type": "rope", "dropout_rate": 0.1}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("train")
    text = the_tempest()
    (place / "texts").mkdir()
    (place / "texts" / "one.txt").write_text(text[:30_000])
    (place / "texts" / "two.txt").write_text(text[30_000:])
    (place / "model.json").write_text(json.dumps(CONFIG))
    return place


def start(place, *argv, devices=1):
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(place / "programs"), "JAX_PLATFORMS": "cpu",
                        "JAX_NUM_CPU_DEVICES": str(devices),
                        "JAX_PERSISTENT_COMPILATION_CACHE_MIN_COMPILE_TIME_SECS": "0",
                        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, "-m", "attnax", "train", *argv], cwd=place, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def lines(place, out):
    """The records of a run, but for its clocks; none where the file is not there yet."""
    file = place / out / "metrics.jsonl"
    raw = file.read_text().splitlines(keepends=True) if file.exists() else []
    clocks = ("seconds", "waited", "waiting", "tokens_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in clocks} for line in raw if line.endswith("\n")]


@pytest.fixture(scope="module")
def whole(place):
    """An uninterrupted run."""
    with start(place, "texts", "--out", "whole", *OPTIONS) as p: said = p.stdout.read()
    assert p.returncode == 0, said
    return lines(place, "whole")


def kill(place, argv, after, pause):
    """Start, wait for a number of updates and a moment more, and kill; whether it was still there."""
    with start(place, *argv) as p:
        try:
            while p.poll() is None and max((r["step"] for r in lines(place, "killed")), default=0) < after: time.sleep(0.005)
            time.sleep(pause)
            alive = p.poll() is None
        finally: p.kill()
        p.stdout.read()
    return alive and p.returncode == -signal.SIGKILL


def test_killed_runs_resume_bit_for_bit(place, whole):
    """After any number of kills, each at a random moment, the metrics are those of a run that was left alone."""
    rng = random.Random(int(os.environ.get("ATTNAX_SEED", "0")))
    argv, killed = ["texts", "--out", "killed", *OPTIONS], 0
    for n in range(KILLS):
        after = 1 + n * (STEPS - 2) // KILLS + rng.randrange(max(1, (STEPS - 2) // KILLS))
        killed += kill(place, argv, after, rng.random() * 0.3)
        argv = ["--out", "killed"]
    with start(place, *argv) as p: said = p.stdout.read()
    assert p.returncode == 0, said
    assert killed >= KILLS - 1, f"only {killed} of {KILLS} kills met a run that was there"
    assert lines(place, "killed") == whole
    ours, theirs = (load_file(place / out / "model.safetensors") for out in ("killed", "whole"))
    assert ours.keys() == theirs.keys()
    for name, x in ours.items(): np.testing.assert_array_equal(x, theirs[name], name)


def test_interrupted_run_says_where_it_is(place, whole):
    """Ctrl-C and SIGTERM end the update in progress, save, and say how to go on; the model that lies there writes."""
    with start(place, "texts", "--out", "stopped", *OPTIONS) as p:
        said = [p.stdout.readline()]
        while not said[-1].startswith("step ") and said[-1]: said.append(p.stdout.readline())
        p.send_signal(signal.SIGTERM)
        said = "".join(said) + p.stdout.read()
    assert p.returncode == 130 and "Traceback" not in said, said
    assert "stopped at step " in said and "to go on: attnax train --out stopped" in said, said
    done = lines(place, "stopped")
    assert [r for r in done if "loss" in r] == [r for r in whole if "loss" in r][:done[-1]["step"]]
    wrote = subprocess.run([sys.executable, "-m", "attnax", "write", "--model", "stopped", "My ", "--tokens", "5"],
                           cwd=place, capture_output=True, text=True)
    assert wrote.returncode == 0 and wrote.stdout.startswith("My "), wrote


@pytest.mark.skipif(not everything, reason="ATTNAX_RESUME=all")
def test_killed_adapters_resume_bit_for_bit(place, whole):
    """Adapters on weights of eight bits; the folder that results writes."""
    argv = ["texts", "--model", "whole", "--lora", "2", "--dora", "--quantize", "int8", "--context", "48", "--batch", "8",
            "--save-every", "3", "--average", "0.9", "--learning-rate", "0.03", "--steps", "12"]
    with start(place, *argv, "--out", "tuned") as p: said = p.stdout.read()
    assert p.returncode == 0 and "parameters in adapters of rank 2" in said, said
    shutil.rmtree(place / "killed", ignore_errors=True)
    assert kill(place, [*argv, "--out", "killed"], after=4, pause=0.1) + kill(place, ["--out", "killed"], after=7, pause=0.0)
    with start(place, "--out", "killed") as p: said = p.stdout.read()
    assert p.returncode == 0, said
    assert lines(place, "killed") == lines(place, "tuned")
    ours, theirs = (load_file(place / out / "adapter_model.safetensors") for out in ("killed", "tuned"))
    assert ours.keys() == theirs.keys() and not (place / "tuned" / "model.safetensors").exists()
    for name, x in ours.items(): np.testing.assert_array_equal(x, theirs[name], name)
    wrote = subprocess.run([sys.executable, "-m", "attnax", "write", "--model", "tuned", "My ", "--tokens", "5"],
                           cwd=place, capture_output=True, text=True)
    assert wrote.returncode == 0 and wrote.stdout.startswith("My "), wrote


def together(place, *argv):
    """Two processes with two devices each."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    return [start(place, *argv, "--coordinator", address, "--processes", "2", "--process", str(i), devices=2) for i in range(2)]


def ended(processes):
    """What each said, and its exit code; none outlives it."""
    try: said = [p.communicate(timeout=300)[0] for p in processes]
    finally:
        for p in processes: p.kill()
    return said, [p.returncode for p in processes]


@pytest.mark.skipif(not everything, reason="ATTNAX_RESUME=all")
@pytest.mark.parametrize("mesh", ["data", "fsdp=2,tensor=2"])
def test_two_processes_make_the_run_of_one(place, mesh):
    """Losses of a run of two processes with two devices each, stopped by a signal to the second alone and gone on with by both,
    are those of one process with one device; what is saved is the same model."""
    (place / "plain.json").write_text(json.dumps(CONFIG | {"dropout_rate": 0.0}))
    argv = ["texts", "--model", "plain.json", "--context", "48", "--batch", "8", "--save-every", "4", "--average", "0.9",
            "--steps", "12", "--learning-rate", "0.01"]
    if not (place / "alone").exists():
        with start(place, *argv, "--out", "alone") as p: said = p.stdout.read()
        assert p.returncode == 0, said
    shutil.rmtree(place / "several", ignore_errors=True)
    both = together(place, *argv, "--out", "several", "--mesh", mesh)
    while all(p.poll() is None for p in both) and not any("loss" in r for r in lines(place, "several")): time.sleep(0.01)
    both[1].send_signal(signal.SIGINT)
    said, codes = ended(both)
    assert codes == [130, 130], said
    assert "stopped at step " in said[0] and "loss" not in said[1], said
    assert max(r["step"] for r in lines(place, "several")) < 12
    said, codes = ended(together(place, "--out", "several"))
    assert codes == [0, 0], said
    got, want = ({r["step"]: r["loss"] for r in lines(place, out) if "loss" in r} for out in ("several", "alone"))
    assert got.keys() == want.keys()
    np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=1e-5)
    ours, theirs = (load_file(place / out / "model.safetensors") for out in ("several", "alone"))
    assert ours.keys() == theirs.keys()
    for name, x in ours.items(): np.testing.assert_allclose(x, theirs[name], atol=1e-4, err_msg=name)
    assert (place / "several" / "loss.png").is_file()


@pytest.mark.skipif(not everything or len(jax.devices()) < 8, reason="ATTNAX_RESUME=all, and eight devices")
def test_run_over_a_mesh_is_the_run(place):
    """On eight devices, cut in one way and gone on with in another, the losses are those of one."""
    def run(out, steps, mesh=None):
        return run_training(TrainSettings(
            text=(str(place / "texts"),), out=str(place / out), model=str(place / "plain.json"), context=48, batch=8,
            save_every=4, average=0.9, recipe=Recipe(steps=steps, learning_rate=0.01, schedule="constant"), mesh=mesh))
    (place / "plain.json").write_text(json.dumps(CONFIG | {"dropout_rate": 0.0}))
    want = run("one", 8).losses
    for steps, mesh in ((4, "fsdp=4,tensor=2"), (8, "data=8")): got = run("mesh", steps, mesh).losses
    assert got.keys() == want.keys()
    np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=1e-5)
