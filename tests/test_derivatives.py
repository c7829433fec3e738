"""Derivatives of every order through the tiled kernels are those of the formula, in 64 bits: forward mode, Hessian-vector
products and gradients of gradients, for the bundled mods and a user's own, grouped heads, ragged lengths, masks, dropout and
sinks.
"""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attnax as ax

rng = np.random.default_rng(0)
Q, K, V = (2, 4, 37, 8), (2, 2, 45, 8), (2, 2, 45, 6)  # grouped heads, no multiple of a block, values of another width
blockwise = partial(ax.memory_efficient_attention, block_size=16)
MODS = {"none": lambda w: None, "causal": lambda w: ax.causal_mod(), "window": lambda w: ax.sliding_window_mod(9),
        "softcap": lambda w: ax.softcap_mod(2.0), "prefix": lambda w: ax.prefix_lm_mod(jnp.array([5, 11])),
        "documents": lambda w: ax.compose_score_mods(ax.document_mask_mod(jnp.arange(45)[None] // 13), ax.causal_mod()),
        "T5": lambda w: ax.relative_position_bias_mod(w.reshape(8, 4)),
        "bias": lambda w: lambda s, b, h, i, j: s + w[i % 8 * 4 + h] * jnp.sin(w[j % 32]),
        "learned slope": lambda w: lambda s, b, h, i, j: jnp.where(
            j <= i + 9, 3 * jnp.tanh(s / 3) - w[h] ** 2 * abs(i - j), -jnp.inf)}


def draw(*shape): return jnp.asarray(rng.normal(size=shape))


def orders(kernel, mod: str, kw: dict):
    """A function of arrays and their movements: how output and lse move, a Hessian-vector product, a gradient of a gradient."""
    def attend(q, k, v, w, sinks): return kernel(q, k, v, score_mod=MODS[mod](w), sinks=sinks, return_lse=True, **kw)
    def loss(*a): return (lambda out, lse: jnp.sin(out).sum() + jnp.cos(lse).sum())(*attend(*a))
    gradient = jax.grad(loss, (0, 1, 2, 3, 4))
    def every(arrays, moved):
        along = jax.jvp(attend, arrays, moved)
        hessian = jax.jvp(gradient, arrays, moved)
        again = jax.grad(lambda *a: sum((x * t).sum() for x, t in zip(gradient(*a), moved)), (0, 1, 2, 3, 4))(*arrays)
        return {"jvp": along, "Hessian times vector": hessian, "gradient of the gradient": again}
    return jax.jit(every)


@pytest.mark.parametrize("mod", MODS)
def test_every_order(mod):
    with jax.enable_x64(True):
        arrays, moved = (tuple(map(lambda s: draw(*s), (Q, K, V, (32,), (4,)))) for _ in range(2))
        kw = {}
        if mod in ("learned slope", "documents"): kw |= dict(dropout_rng=jax.random.key(1), dropout_rate=0.3, deterministic=False)
        if mod in ("none", "bias"): kw |= dict(mask=jnp.asarray(rng.random((2, 1, 1, 45)) < 0.7))
        got, want = (orders(kernel, mod, kw)(arrays, moved) for kernel in (blockwise, ax.standard_attention))
    for name in want:
        for x, y in zip(jax.tree.leaves(got[name]), jax.tree.leaves(want[name])):
            most = 1e-6 * abs(np.asarray(y)).max() + 1e-12
            np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=0, atol=most, err_msg=f"{mod}, {name}")


def test_hessian_through_the_kernels_of_accelerators():
    """Their forward and backward passes in the kernels, interpreted; what moves them, in JAX."""
    arrays, moved = (tuple(jnp.asarray(rng.normal(size=s), jnp.float32) for s in (Q, K, V, (32,), (4,))) for _ in range(2))
    pallas = partial(ax.pallas_flash_attention, interpret=True, block_q=16, block_kv=16, on_fallback="error")
    got, want = (orders(kernel, "learned slope", {})(arrays, moved) for kernel in (pallas, ax.standard_attention))
    for name in want:
        for x, y in zip(jax.tree.leaves(got[name]), jax.tree.leaves(want[name])):
            np.testing.assert_allclose(x, y, rtol=0, atol=2e-5 * (1 + float(abs(y).max())), err_msg=name)


def test_memory_stays_linear():
    """A Hessian-vector product over 8192 positions takes at most four times the memory of a gradient; twice the length, twice."""
    def loss(*qkv): return (ax.memory_efficient_attention(*qkv, score_mod=ax.causal_mod()) ** 2).sum()
    gradient = jax.grad(loss, (0, 1, 2))
    def product(*a): return jax.jvp(gradient, a, a)[1]
    def again(*a): return jax.grad(lambda *a: sum(x.sum() for x in gradient(*a)), (0, 1, 2))(*a)
    def mib(fn, n):
        x = jax.ShapeDtypeStruct((1, 8, n, 64), jnp.float32)
        return ax.testing.temp_bytes(fn, x, x, x) / 2**20
    one = mib(gradient, 8192)
    assert mib(product, 8192) <= 4 * one
    for fn in (product, again): assert mib(fn, 16384) <= 2 * mib(fn, 8192)
