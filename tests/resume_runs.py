"""Runs that write checkpoints and are killed, for tests/test_resume.py: `python tests/resume_runs.py KIND WORDS`, in JSON."""
import json
import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attnax.layers.config import TransformerConfig
from attnax.models.transformer import TransformerLM
from attnax.training.checkpoints import Checkpoints
from attnax.training.losses import lm_loss
from attnax.training.step import Average, Recipe, make_optimizer, make_train_step


def say(*words): os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Numbers(nnx.Module):
    """Arrays that follow from a number and a name."""
    def __init__(self, step: int, name: int):
        rng = np.random.default_rng([step, name])
        self.arrays = nnx.List([nnx.Param(jnp.asarray(rng.normal(size=shape), jnp.float32))
                                for shape in ((), (3,), (64, 1024), (257, 129))])

    def same(self, other) -> bool:
        return all(np.array_equal(a[...], b[...]) for a, b in zip(self.arrays, other.arrays))


def pair(step: int): return Numbers(step, 0), Numbers(step, 1)


def kill_at(event: int) -> None:
    """End this process at its `event`-th touch of the file system from now on."""
    seen = 0
    def hook(name, args):
        nonlocal seen
        if not name.startswith(("os.", "shutil.", "pathlib.")) and name != "open": return
        seen += 1
        if seen == event: os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)


def write(folder: str, background: bool, last: int, event: int | None = None) -> None:
    """Checkpoints of steps 1, 2, ..., of which each is said when it is whole."""
    with Checkpoints(folder, background=background, keep_last=2, keep_best=1) as kept:
        kept.save(1, *pair(1), loss=1.0)
        kept.wait()
        say("whole", 1)
        if event: kill_at(event)
        for step in range(2, last + 1):
            kept.save(step, *pair(step), data={"step": step}, loss=[9.0, 0.5, 2.0][step % 3])
            if step % 2:
                kept.wait()
                say("whole", step)
    say("done")


class Stream:
    """Windows of tokens in an order that is drawn anew in every epoch, and where it is."""
    windows = np.random.default_rng(0).integers(0, 64, (56, 17))

    def __init__(self): self.epoch, self.at = 0, 0

    def __next__(self):
        order = np.random.default_rng([7, self.epoch]).permutation(len(self.windows))
        batch = self.windows[order[self.at:self.at + 8]]
        self.at += 8
        if self.at == len(order): self.epoch, self.at = self.epoch + 1, 0
        return batch


def config(**more) -> TransformerConfig:
    return TransformerConfig(**dict(
        vocab_size=64, d_model=32, num_heads=4, num_layers=2, d_ff=64, max_len=32, pos_emb_type="rope", dropout_rate=0.1,
        scan_layers=True) | more)


def loss(model, batch): return lm_loss(model, batch)


def begin(**more):
    model = TransformerLM(nnx.Rngs(0), config(**more))
    recipe = Recipe(steps=200, learning_rate=1e-2, warmup_steps=4)
    return model, make_optimizer(model, recipe), Average(model, 0.9)


def train(folder: str, steps: int, cache: str) -> None:
    """A run of so many steps from where the folder is; every loss is said in full."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    (model, optimizer, mean), stream, step, start = begin(), Stream(), make_train_step(loss), 0
    move = nnx.jit(lambda mean, model: mean.update(model))
    with Checkpoints(folder) as kept:
        if kept.steps:
            told = kept.restore(model, optimizer, average=mean)
            start, stream.epoch, stream.at = told.step, told.data["epoch"], told.data["at"]
        say("from", start)
        for at in range(start + 1, steps + 1):
            report = step(model, optimizer, next(stream))
            move(mean, model)
            say("loss", at, float(report.loss).hex())
            if at % 4 == 0:
                kept.save(at, model, optimizer, average=mean, data={"epoch": stream.epoch, "at": stream.at})
    say("mean", *(float(x.sum()).hex() for x in jax.tree.leaves(nnx.state(mean))))
    say("done")


if __name__ == "__main__":
    {"write": write, "train": train}[sys.argv[1]](**json.loads(sys.argv[2]))
