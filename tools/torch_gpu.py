"""Time PyTorch's attention on a GPU in the cases of `attnax bench attention --device gpu`: SDPA where it has words for the
case, and compiled flex attention, whose score mods and block masks are the nearest thing to ours. Run it after the benchmark,
on the same machine.

    python tools/torch_gpu.py --lengths 1024 4096 16384 --widths 64 128
"""
import argparse
import statistics

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention as sdpa

from attnax.bench.accelerator import AcceleratorSetting, useful_flops

WINDOW, DOCUMENTS, HEADS, TOKENS = 1024, 16, 16, 16384


def calls(case: str, n: int):
    """Functions of queries, keys and values that compute the case, by name."""
    ids = torch.arange(n, device="cuda") * DOCUMENTS // n
    slopes = torch.tensor([2 ** (-8 * (h + 1) / HEADS) for h in range(HEADS)], device="cuda")
    sees = {"causal": lambda b, h, q, k: k <= q, "window": lambda b, h, q, k: (k <= q) & (q - k < WINDOW),
            "documents": lambda b, h, q, k: ids[q] == ids[k], "alibi": lambda b, h, q, k: k <= q}[case]
    mod = (lambda s, b, h, q, k: s - slopes[h] * (q - k).abs()) if case == "alibi" else None
    mask = create_block_mask(sees, None, None, n, n, device="cuda")
    flex = torch.compile(flex_attention, dynamic=False)
    found = {"torch flex": lambda q, k, v: flex(q, k, v, score_mod=mod, block_mask=mask)}
    if case == "causal": found["torch SDPA"] = lambda q, k, v: sdpa(q, k, v, is_causal=True)
    return found


def milliseconds(fn) -> float:
    """Median of five runs of 20 ms or more each, by the device's own clock."""
    for _ in range(3): fn()
    def run(count):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count): fn()
        end.record(); torch.cuda.synchronize()
        return start.elapsed_time(end)
    count = 1
    while run(count) < 20: count *= 2
    return statistics.median(run(count) / count for _ in range(5))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--lengths", nargs="+", type=int, default=[1024, 4096, 16384])
    ask.add_argument("--widths", nargs="+", type=int, default=[64, 128])
    ask.add_argument("--cases", nargs="+", default=["causal", "window", "documents", "alibi"])
    a = ask.parse_args()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}\ncase, D, S, pass, function, ms, useful TFLOP/s")
    for case in a.cases:
        for d in a.widths:
            for n in a.lengths:
                torch._dynamo.reset()
                b = max(1, TOKENS // n)
                q, k, v, g = (torch.randn(b, HEADS, n, d, device="cuda", dtype=torch.bfloat16) for _ in range(4))
                for x in (q, k, v): x.requires_grad_()
                for name, fn in calls(case, n).items():
                    def forward(fn=fn, qkv=(q, k, v)):
                        with torch.no_grad(): return fn(*qkv)
                    def both(fn=fn, qkv=(q, k, v), g=g): return torch.autograd.grad(fn(*qkv), qkv, g)
                    for what, run in (("forward", forward), ("forward + backward", both)):
                        t, setting = milliseconds(run), AcceleratorSetting(case, n, d, run is both, b, HEADS, WINDOW, DOCUMENTS)
                        print(f"{case}, {d}, {n}, {what}, {name}, {t:.3f}, {useful_flops(setting) / t / 1e9:.1f}", flush=True)


if __name__ == "__main__": main()
