"""`jax.export` without numbers for batch or length: what comes out does, at any size, what the function does."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

import attnax as ax

causal = ax.causal_mod()
config = partial(ax.TransformerConfig, vocab_size=17, d_model=16, num_heads=4, num_layers=1, d_ff=32, max_len=32)
some_batches, some_lengths, some_of_both = (dict(b=1), dict(b=3)), (dict(s=5), dict(s=9)), (dict(b=1, s=3), dict(b=3, s=9))
LLAMA = dict(pos_emb_type="rope", norm_type="rms", ff_activation="swiglu", num_kv_heads=2)


def of_one(kernel, **kw):
    """A kernel as a function of one array."""
    return lambda x: kernel(x, x, x, **kw)


def of(make, **kw):
    """A layer or model as a function of arrays."""
    graph, state = nnx.split(make(nnx.Rngs(0)))
    return lambda x: nnx.merge(graph, state)(x, **kw)


def lm(**fields): return of(lambda rngs: ax.TransformerLM(rngs, config(**fields)), deterministic=True)



CASES = {  # a function, a shape with letters, and two sizes for them
    "standard, length": (of_one(ax.standard_attention, score_mod=causal), "2,4,s,8", some_lengths),
    "standard, both": (of_one(ax.standard_attention), "b,4,s,8", some_of_both),
    "blockwise": (of_one(ax.memory_efficient_attention, score_mod=ax.alibi_mod(4), block_size=8), "b,4,21,8",
                  some_batches),
    "flash": (of_one(ax.flash_attention, score_mod=causal), "b,4,16,8", some_batches),
    "ring": (of_one(ax.ring_attention, score_mod=causal), "b,4,16,8", some_batches),
    "linear": (of_one(ax.linear_attention, chunk_size=8), "b,4,16,8", some_batches),
    "lite": (of_one(ax.lite_attention, gate_proj=lambda p: p), "b,4,s,8", some_of_both),
    "rotary": (ax.RotaryEmbedding(8, 64), "b,4,s,8", some_of_both),
    "layer": (of(lambda rngs: ax.MultiHeadAttention(rngs, num_heads=2, in_features=8)), "b,s,8", some_of_both),
    "model": (lm(), "b,8", some_batches),
    "model, as Llama": (lm(**LLAMA), "b,s", some_of_both),
    "model, blockwise": (lm(attention_type="memory_efficient", pos_emb_type="alibi"), "b,8", some_batches),
    "model, experts": (lm(num_experts=4), "b,8", some_batches),
    "encoder": (of(lambda rngs: ax.TransformerEncoder(rngs, config()), deterministic=True), "b,s", some_of_both)}


@pytest.mark.parametrize("name", CASES)
def test_exported_is_the_function(name):
    f, letters, sizes = CASES[name]
    of_ids = name.startswith(("model", "encoder"))
    shape = export.symbolic_shape(letters)
    exported = export.export(jax.jit(f))(jax.ShapeDtypeStruct(shape, jnp.int32 if of_ids else jnp.float32))
    for size in sizes:
        numbers = [size.get(str(n)) or int(str(n)) for n in shape]
        rng = np.random.default_rng(0)
        x = rng.integers(0, 17, numbers).astype(np.int32) if of_ids else rng.normal(size=numbers).astype(np.float32)
        np.testing.assert_allclose(exported.call(x), f(x), atol=2e-5)


@pytest.mark.parametrize("f", [ax.memory_efficient_attention, ax.flash_attention, ax.ring_attention, ax.linear_attention],
                         ids=lambda f: f.__name__)
def test_a_length_without_a_number_is_refused_by_name(f):
    x = jax.ShapeDtypeStruct(export.symbolic_shape("2,4,s,8"), jnp.float32)
    with pytest.raises(NotImplementedError, match="lengths without a number, s and s,.* export with `standard_attention`"):
        export.export(jax.jit(of_one(f)))(x)
