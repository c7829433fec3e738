"""Time the GPU kernels at many block sizes, on a machine that has a GPU: what `_SIZES` of `nbs/22_kernels.pallas_gpu` is made of.

    python tools/tune_gpu.py                                   # bfloat16, widths 64, 128 and 256, causal
    python tools/tune_gpu.py --widths 128 --mods alibi --dtype float32 --length 8192

Every size is compiled (in threads: the compiler runs outside of Python), checked against the sizes of the table, then timed
in turns with them, each of the three kernels alone. What the compiler refuses is counted, not hidden.
"""
import argparse
import itertools
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from functools import partial

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from attnax import alibi_mod, causal_mod, compose_score_mods, sliding_window_mod  # noqa: E402
from attnax.bench.accelerator import _calls  # noqa: E402
from attnax.kernels.flash import _machine  # noqa: E402
from attnax.kernels.pallas_gpu import GpuSizes, gpu_backward, gpu_forward, gpu_sizes  # noqa: E402
from attnax.kernels.pallas_tiles import prepare_tiles  # noqa: E402
from attnax.kernels.sparsity import Blocks  # noqa: E402
from attnax.kernels.tiles import prepare_call  # noqa: E402


def mod(name, heads):
    """A score mod by its name."""
    return {"none": None, "causal": causal_mod(), "window": sliding_window_mod(1024),
            "alibi": compose_score_mods(alibi_mod(heads), causal_mod())}[name]


def sizes_to_try(width: int, backward: bool) -> list[GpuSizes]:
    """Sizes whose tiles may fit the registers of a block."""
    found, (queries, keys) = [], ((32, 64, 128), (32, 64, 128)) if backward else ((64, 128), (32, 64, 128))
    for q, k, warps, stages in itertools.product(queries, keys, (4, 8), (2, 3)):
        kept = q * k + width * (2 * max(q, k) if backward else q)  # numbers that a block keeps
        fits = kept <= warps * 32 * 190 and 2048 <= q * k <= 2**17 // warps
        if fits: found.append(GpuSizes(Blocks(q, k), warps, stages))
    return found


def tune(width: int, name: str, dtype, length: int, heads: int, batch: int, repeats: int) -> None:
    """Print the fastest sizes of both passes."""
    q, k, v, d_out = (jax.random.normal(x, (batch, heads, length, width), dtype) for x in jax.random.split(jax.random.key(0), 4))
    call = prepare_call(q, k, v, score_mod=mod(name, heads))
    data = prepare_tiles(call.rules.plan, call.captures, None, None)
    _, capability = _machine(q)
    known = [gpu_sizes(call.dims, backward=back, dtype=dtype, capability=capability) for back in (False, True)]
    out, lse = jax.jit(partial(gpu_forward, call.rules, known[0]))(q, k, v, data)
    delta = jax.jit(lambda: (out.astype(jnp.float32) * d_out.astype(jnp.float32)).sum(-1))()
    def backward(rules, sizes, *args): return gpu_backward(rules, sizes, *args, wanted=[False] * len(data.parts))
    kernels = {"forward": gpu_forward, "backward, queries": lambda *a: backward(*a)[0],
               "backward, keys": lambda *a: backward(*a)[1:3]}
    for kernel, fn in kernels.items():  # XLA leaves out the kernel whose results are not wanted
        back = kernel != "forward"
        args = (q, k, v, data, lse, delta, d_out) if back else (q, k, v, data)
        tried = list(dict.fromkeys([known[back], *sizes_to_try(width, back)]))
        lowered = [jax.jit(lambda *a, s=s, fn=fn: fn(call.rules, s, *a)).lower(*args) for s in tried]
        def compiled(x):
            try: return x.compile()
            except jax.errors.JaxRuntimeError: return None  # too large for the device: counted below
        with ThreadPoolExecutor(os.cpu_count()) as pool: programs = list(pool.map(compiled, lowered))
        ready = {s: p for s, p in zip(tried, programs) if p is not None}
        right, wrong, failed, times = None, [], 0, {}
        for s, program in ready.items():
            try: got = [jnp.asarray(x, jnp.float32) for x in jax.tree.leaves(program(*args))]
            except jax.errors.JaxRuntimeError: failed += 1; continue
            right = right or got
            far = [float(abs(a - b).max()) / (1 + float(abs(b).max())) for a, b in zip(got, right)]
            if not max(far) <= 0.03: wrong.append(s); continue
            times[s] = [_calls(partial(program, *args), 0.005)()]
        best = sorted(times, key=lambda s: times[s][0])[:10]
        finalists = list(dict.fromkeys([known[back], *best]))
        for _ in range(repeats):
            for s in finalists: times[s].append(_calls(partial(ready[s], *args), 0.02)())
        print(f"\n{name}, D = {width}, {jnp.dtype(dtype).name}, {kernel}: {len(tried)} sizes, "
              f"{len(tried) - len(ready)} not compiled, {failed} not launched, {len(wrong)} wrong {wrong or ''}")
        for s in sorted(finalists, key=lambda s: statistics.median(times[s][1:])):
            t = statistics.median(times[s][1:])
            print(f"  {1e3 * t:8.3f} ms  q {s.blocks.q:3} k {s.blocks.k:3} warps {s.warps} stages {s.stages}"
                  f"{'   (the table)' if s == known[back] else ''}", flush=True)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--widths", nargs="+", type=int, default=[64, 128, 256])
    ask.add_argument("--mods", nargs="+", choices=("none", "causal", "window", "alibi"), default=["causal"])
    ask.add_argument("--dtype", default="bfloat16")
    ask.add_argument("--length", type=int, default=4096)
    ask.add_argument("--heads", type=int, default=16)
    ask.add_argument("--batch", type=int, default=4)
    ask.add_argument("--repeats", type=int, default=5)
    a = ask.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {a.batch} x {a.heads} heads, {a.length} positions")
    for name, width in itertools.product(a.mods, a.widths):
        tune(width, name, jnp.dtype(a.dtype), a.length, a.heads, a.batch, a.repeats)


if __name__ == "__main__": main()
