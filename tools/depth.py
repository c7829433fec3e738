"""What depth costs: seconds to compile a training step and to begin generating, and the time of a step and of a token,
for layers in a list and stacked. `depth.py [--layers 4 32] [--rows 8] [--positions 2048]`, with attnax installed.
"""
import argparse
import time
from dataclasses import replace
from statistics import median

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from attnax import TransformerConfig, TransformerLM, generate
from attnax.bench.measure import machine


def seconds(run) -> float:
    start = time.perf_counter(); jax.block_until_ready(run())
    return time.perf_counter() - start


def training(config: TransformerConfig):
    """Seconds of the first step, and a function that takes one more."""
    model = TransformerLM(nnx.Rngs(0), config)
    optimizer, ids = nnx.Optimizer(model, optax.adamw(1e-3), wrt=nnx.Param), jnp.ones((2, 256), jnp.int32)

    @nnx.jit
    def step(model, optimizer, ids):
        def loss(model): return optax.softmax_cross_entropy_with_integer_labels(model(ids, deterministic=True), ids).mean()
        value, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads)
        return value

    run = lambda: step(model, optimizer, ids)
    return seconds(run), run


def decoding(config: TransformerConfig, rows: int):
    """Seconds until the first text, half of it a prompt, and a function that says how long a token takes."""
    new = config.max_len // 2
    model, prompt = TransformerLM(nnx.Rngs(0), config), jnp.ones((rows, config.max_len - new), jnp.int32)
    def run(n): return seconds(lambda: generate(model, prompt, max_new_tokens=n))
    first = run(new); run(1)
    return first, lambda: (run(new) - run(1)) / (new - 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 32])
    parser.add_argument("--rows", type=int, default=8, help="sequences that are decoded")
    parser.add_argument("--positions", type=int, default=256, help="prompt and new tokens, half of each")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved runs of each")
    args = parser.parse_args()
    print(machine())
    small = TransformerConfig(vocab_size=1000, d_model=256, num_heads=8, num_kv_heads=4, d_ff=512, max_len=args.positions,
                              pos_emb_type="rope", norm_type="rms", ff_activation="swiglu", use_bias=False, dropout_rate=0.0)
    for layers in args.layers:
        found = {}
        for scan in (False, True):
            config = replace(small, num_layers=layers, scan_layers=scan)
            found[scan] = training(config), decoding(config, args.rows)
        times = {scan: [] for scan in found}
        for _ in range(args.repeats):
            for scan, ((_, step), (_, token)) in found.items(): times[scan].append((seconds(step), token()))
        for scan, ((compiled, _), (began, _)) in found.items():
            step, token = (median(t) * 1e3 for t in zip(*times[scan]))
            print(f"{layers:3} layers, {'stacked' if scan else 'a list '}: first step {compiled:5.1f} s, then {step:7.1f} ms; "
                  f"first text {began:5.1f} s, then {token:6.2f} ms a token", flush=True)
