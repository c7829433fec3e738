"""Everything public works under the modes of JAX that careful people switch on: no implicit rank or dtype promotion, 64-bit
numbers, and a stop at the first NaN. The first three are settled while tracing, so nothing is compiled for them.
"""
import importlib
import pkgutil
from contextlib import contextmanager
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import attnax as ax

q, k = jax.ShapeDtypeStruct((2, 4, 9, 8), jnp.float32), jax.ShapeDtypeStruct((2, 2, 12, 8), jnp.float32)
x, ids = jax.ShapeDtypeStruct((2, 6, 16), jnp.float32), jax.ShapeDtypeStruct((2, 8), jnp.int32)
images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
sizes = dict(vocab_size=17, d_model=16, num_heads=4, num_layers=2, d_ff=32, max_len=32)
rngs = nnx.Rngs(0)


def mods() -> dict:
    """The bundled mods. Made in the mode that is looked at: an array has the dtype of its time."""
    return {
        "none": None, "causal": ax.causal_mod(), "window": ax.sliding_window_mod(3), "alibi": ax.alibi_mod(4),
        "softcap": ax.softcap_mod(5.0), "prefix": ax.prefix_lm_mod(jnp.array([2, 3])),
        "documents": ax.document_mask_mod(jnp.zeros((2, 12), jnp.int32)), "bias": ax.additive_bias_mod(jnp.zeros((2, 4, 9, 12))),
        "T5": ax.relative_position_bias_mod(jnp.zeros((8, 4))), "both": ax.compose_score_mods(ax.alibi_mod(4), ax.causal_mod()),
        "own": lambda s, b, h, i, j: jnp.where(j <= i + 3, jax.nn.relu(s) - abs(i - j).astype(s.dtype), -jnp.inf)}


def through(f, *args):
    """Values, and gradients of everything that floats, of a function of arrays that are only thought of."""
    def loss(*a): return sum(y.astype(jnp.float32).sum() for y in jax.tree.leaves(f(*a)) if jnp.issubdtype(y.dtype, jnp.floating))
    wanted = tuple(i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.floating))
    return jax.eval_shape(jax.grad(loss, wanted) if wanted else f, *args)


def kernel(f):
    """A kernel under every mod, and with everything else that a call may have."""
    for mod in mods().values(): through(lambda q, k, mod=mod: f(q, k, k, score_mod=mod), q, k)
    more = dict(sinks=jnp.zeros(4), return_lse=True, mask=jnp.ones((2, 1, 1, 12), bool), scale=jnp.float32(0.3))
    drop = dict(dropout_rng=jax.random.key(0), dropout_rate=0.1, deterministic=False)
    through(lambda q, k: f(q, k, k, **more, **drop), q, k)


def lm(**fields):
    """A language model: logits, a training step's gradient, and what it writes."""
    config = ax.TransformerConfig(**sizes | fields)
    model = nnx.eval_shape(lambda: ax.TransformerLM(nnx.Rngs(0), config))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    def loss(params, rest, ids): return nnx.merge(graph, params, rest)(ids, deterministic=True).astype(jnp.float32).sum()
    jax.eval_shape(jax.grad(loss), params, rest, ids)
    def write(params, rest, ids):
        how = dict(max_new_tokens=4, temperature=0.7, top_p=0.9, top_k=3, rng=0)
        return ax.generate(nnx.merge(graph, params, rest), ids, **how)
    jax.eval_shape(write, params, rest, ids)


def paged():
    cache = ax.init_paged_kv_cache(num_blocks=8, block_size=4, num_kv_heads=2, head_dim=8, batch_size=2, max_blocks_per_seq=4)
    new = jnp.ones((2, 3, 2, 8))
    cache = jax.eval_shape(lambda c: ax.append_kv_batched(c, new, new), cache)
    jax.eval_shape(lambda q, c: ax.paged_attention(q, c, score_mod=ax.alibi_mod(4), return_lse=True), q, cache)


def layer(make, *args, **kw):
    """A layer, made and called."""
    through(lambda *a: make()(*a, **kw), *args)


POSITIONS = ("sinusoidal", "learned", "rope", "alibi", "none")
LLAMA = dict(pos_emb_type="rope", norm_type="rms", ff_activation="swiglu", num_kv_heads=2, use_bias=False)
CALLS = {
    **{name: partial(kernel, f) for name, f in dict(
        standard=ax.standard_attention, blockwise=ax.memory_efficient_attention, flash=ax.flash_attention,
        pallas=partial(ax.pallas_flash_attention, interpret=True), ring=ax.ring_attention).items()},
    "linear": lambda: through(lambda q: ax.linear_attention(q, q, q, chunk_size=3), q),
    "lite": lambda: through(lambda q: ax.lite_attention(q, q, q, gate_proj=lambda p: p), q),
    "paged": paged,
    "merge": lambda: through(lambda q: ax.merge_attention([(q, q.sum(-1))] * 2), q),
    "rotary": lambda: through(lambda q: ax.RotaryEmbedding(8, 64)(q), q),
    "rms norm": lambda: layer(lambda: ax.RMSNorm(16, rngs=nnx.Rngs(0)), x),
    "feed-forward": lambda: layer(lambda: ax.FeedForward(nnx.Rngs(0), 16, 32, ff_activation="geglu"), x),
    "experts": lambda: layer(lambda: ax.MixtureOfExperts(nnx.Rngs(0), d_model=16, d_ff=16, num_experts=4), x),
    "experts with limits": lambda: layer(
        lambda: ax.MixtureOfExperts(nnx.Rngs(0), d_model=16, d_ff=16, num_experts=4, dispatch="capacity"), x,
        padding_mask=jnp.ones((2, 6), bool)),
    "attention": lambda: layer(
        lambda: ax.MultiHeadAttention(nnx.Rngs(0), num_heads=4, in_features=16, num_kv_heads=2), x,
        mask=jnp.ones((2, 1, 1, 6), bool)),
    **{f"model, {p}": partial(lm, pos_emb_type=p) for p in POSITIONS},
    **{f"model, {a}": partial(lm, attention_type=a) for a in ("memory_efficient", "flash", "linear")},
    "model, as Llama": partial(lm, **LLAMA),
    "model, as Gemma": partial(lm, **LLAMA | dict(attention_softcap=5.0, logit_softcap=3.0, attention_window=(3, None),
                                                  sandwich_norm=True, norm_scale_offset=1.0, qk_norm=True)),
    "model, as DeepSeek": partial(lm, **LLAMA | dict(
        num_kv_heads=None, rope_interleaved=True, num_experts=4, shared_expert_d_ff=8,
        attention_latent=ax.LatentSpec(kv_rank=6, nope_dim=3, rope_dim=2, value_dim=5, q_rank=7),
        expert_routing=ax.GroupedRouting(groups=2, kept=1, scale=1.5))),
    "model, experts": partial(lm, num_experts=4, layer_scale_init=0.1),
    "model, as Granite and Ministral": partial(lm, **LLAMA | dict(
        residual_scale=0.2, logit_scale=0.1, rope_scaling=ax.RopeScaling(
            kind="yarn", factor=4.0, original_max_positions=4, query_beta=0.1))),
    "encoder": lambda: layer(
        lambda: ax.TransformerEncoder(nnx.Rngs(0), ax.TransformerConfig(**sizes, embed_norm=True, num_token_types=2)), ids,
        padding_mask=jnp.ones((2, 8), bool), token_type_ids=jnp.ones((2, 8), jnp.int32), deterministic=True),
    "vision": lambda: layer(
        lambda: ax.VisionTransformer(nnx.Rngs(0), ax.VisionTransformerConfig(
            image_size=8, patch_size=4, d_model=16, num_heads=4, num_layers=1, d_ff=32, num_classes=3)), images)}


@contextmanager
def no_promotion():
    """Neither of ranks nor of dtypes: each only forbids, and says which of the two it was."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"): yield


MODES = {"no promotion": no_promotion, "64 bits": partial(jax.enable_x64, True)}


@pytest.mark.internals
def test_every_module_is_imported():
    """Each by its own name, whatever the package itself imports lazily."""
    names = [m.name for m in pkgutil.walk_packages(ax.__path__, "attnax.") if not m.name.endswith("__main__")]
    assert len([importlib.import_module(name) for name in names]) > 120


@pytest.mark.internals
@pytest.mark.parametrize("name", CALLS)
def test_traces(name):
    for mode in MODES.values():
        with mode(): CALLS[name]()


def test_promotion_is_refused():
    """The modes do what they are for: a call that promotes is seen."""
    row = jax.ShapeDtypeStruct((8,), jnp.float32)
    with no_promotion(), pytest.raises(ValueError, match="rank promotion|Operands could not be broadcast"):
        jax.eval_shape(lambda q, row: q * row, q, row)
    with no_promotion(), pytest.raises(Exception, match="promotion"):
        jax.eval_shape(lambda q, ids: q + ids[0, 0], q, ids)


@pytest.mark.parametrize("f", [ax.standard_attention, ax.memory_efficient_attention, ax.flash_attention],
                         ids=lambda f: f.__name__)
def test_no_nan_on_the_way(f):
    """Rows that see nothing, hidden blocks and padding make no NaN, not even one that is thrown away."""
    blind = lambda s, b, h, i, j: jnp.where((j <= i) & (i != 4), s, -jnp.inf)
    seen = jnp.arange(12) < jnp.array([[7], [0]])
    a, b = (jax.random.normal(jax.random.key(n), s.shape) for n, s in enumerate((q, k)))
    with jax.debug_nans(True):
        for kw in (dict(score_mod=blind), dict(mask=seen[:, None, None]), dict(sinks=jnp.zeros(4), score_mod=blind)):
            grads = jax.jit(jax.grad(lambda q, k, kw=kw: (f(q, k, k, **kw) ** 2).sum(), (0, 1)))(a, b)
            assert all(bool(jnp.isfinite(g).all()) for g in grads)
