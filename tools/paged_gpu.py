"""Time a step of decoding from pages on a GPU: our portable kernel, JAX's own through `native_paged_attention`, and ours with a
sliding window, in bfloat16 with 32 query heads, 8 key/value heads of 128, and pages of 16 tokens.

    python tools/paged_gpu.py --rows 16 64 --longest 2048 4096
"""
import argparse
import statistics
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from attnax import paged_attention, sliding_window_mod
from attnax.bench.pages import PagesSizes, filled_pages
from attnax.kernels.paged_native import explain_paged_attention, native_paged_attention


def milliseconds(fn, *args, runs=7, calls=20) -> float:
    """Median of runs of so many calls each."""
    fn(*args).block_until_ready()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(calls): out = fn(*args)
        out.block_until_ready()
        times.append((time.perf_counter() - start) / calls)
    return 1e3 * statistics.median(times)


def measure(rows: int, longest: int) -> None:
    """Lengths from an eighth of the longest on; errors against float32, of the largest output."""
    lengths = tuple(int(x) for x in np.random.default_rng(0).integers(longest // 8, longest + 1, rows))
    wide = filled_pages(PagesSizes(lengths, heads=32, kv_heads=8, head_dim=128, block_size=16))
    query = jax.random.normal(jax.random.key(1), (rows, 32, 1, 128), jnp.bfloat16)
    with jax.default_matmul_precision("highest"):
        true = jax.jit(paged_attention)(query.astype(jnp.float32), wide)
    cache = replace(wide, key_pool=wide.key_pool.astype(jnp.bfloat16), value_pool=wide.value_pool.astype(jnp.bfloat16))
    print(explain_paged_attention(query, cache, finite_pages=True))
    near = sliding_window_mod(256)
    ways = {"ours": jax.jit(paged_attention), "JAX's": jax.jit(lambda q, c: native_paged_attention(q, c, finite_pages=True)),
            "ours, window": jax.jit(lambda q, c: paged_attention(q, c, score_mod=near))}
    for name, fn in ways.items():
        ms, seen = milliseconds(fn, query, cache), sum(min(n, 256) if "window" in name else n for n in lengths)
        off = jnp.abs(fn(query, cache).astype(jnp.float32) - true).max() / jnp.abs(true).max()
        off = "" if "window" in name else f", error {float(off):.1e}"
        rate = seen * 2 * 8 * 128 * 2 / ms / 1e6
        print(f"{rows} rows, longest {longest}, {name}: {ms:.3f} ms, {rate:.0f} GB/s{off}", flush=True)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rows", nargs="+", type=int, default=[16, 64])
    ask.add_argument("--longest", nargs="+", type=int, default=[2048, 4096])
    asked = ask.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    for rows, longest in zip(asked.rows, asked.longest, strict=True): measure(rows, longest)


if __name__ == "__main__": main()
