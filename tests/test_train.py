"""A run of `attnax train` that is killed with SIGKILL makes the updates of one that is not, bit for bit.

Two kills in CI; `ATTNAX_RESUME=all` for ten. Each kill comes at a chosen moment of a chosen update, wherever the process is
then: in a step, in a write of a checkpoint, in a line of the metrics.
"""
import json
import os
import random
import signal
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

STEPS, KILLS = 24, 10 if os.environ.get("ATTNAX_RESUME") == "all" else 2
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


def start(place, *argv):
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(place / "programs"), "JAX_PLATFORMS": "cpu",
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


@pytest.mark.skipif(os.environ.get("ATTNAX_RESUME") != "all" or len(jax.devices()) < 8,
                    reason="ATTNAX_RESUME=all, and eight devices")
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
