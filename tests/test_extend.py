"""What people add most often, each by one piece of their own: a kernel, a memory, a scheme of positions, an option of a block.

Each test makes a toy of its kind, gives it to a model, and holds the model against one that is written out or made of parts
of the library. Nothing else is touched: no list, no table, no branch.
"""
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from attnax import (
    AttentionSpec, EncoderBlock, KeysSeen, LayerCache, MultiHeadAttention, Positions, TransformerConfig, TransformerLM,
    declare_kernel, generate, init_decoder_kv_caches_from_config, init_kv_layer_cache, spec_from_dict, spec_to_dict,
    standard_attention)
from attnax.testing import assert_close

CONFIG = dict(vocab_size=40, d_model=16, num_heads=4, num_kv_heads=2, num_layers=2, d_ff=24, max_len=32, dropout_rate=0.0)
IDS = jax.random.randint(jax.random.key(0), (2, 11), 1, 40)


def model(**kw) -> TransformerLM:
    """A small language model; what is no field of a config is a word of the model."""
    words = {name: kw.pop(name) for name in ("attention_fn", "block") if name in kw}
    return TransformerLM(nnx.Rngs(0), TransformerConfig(**CONFIG | kw), **words)


def in_pieces(net: TransformerLM, cuts=(4, 5, 6), **kw):
    """Logits of a model that is fed piece by piece."""
    caches, outs = init_decoder_kv_caches_from_config(net.config, batch_size=2, **kw), []
    step = nnx.jit(lambda net, ids, caches: net(ids, layer_kv_caches=caches, deterministic=True))
    for piece in jnp.split(IDS, cuts, axis=1):
        out, caches = step(net, piece, caches)
        outs.append(out)
    return jnp.concatenate(outs, 1), caches


# ---- A kernel: a function

def relu_attention(query, key, value, *, mask=None, score_mod=None, dropout_rng=None, dropout_rate=0.0, deterministic=True):
    """Weights that are squares of what is above zero, over their sum."""
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key)
    weights = jnp.where(True if mask is None else mask, jax.nn.relu(scores) ** 2, 0)
    return jnp.einsum("bhqk,bhkd->bhqd", weights / (weights.sum(-1, keepdims=True) + 1e-6), value)


def test_a_kernel():
    net = model(attention_fn=relu_attention, pos_emb_type="rope", attention_window=5)
    whole = net(IDS, deterministic=True)
    assert float(abs(whole - model(pos_emb_type="rope", attention_window=5)(IDS, deterministic=True)).max()) > 1e-3
    assert_close(in_pieces(net)[0], whole, atol=1e-5)
    layer = net.decoder.layers[0].self_attn
    x = jax.random.normal(jax.random.key(1), (2, 11, 16))
    parts = (layer._turned(layer.query_proj, None, x, jnp.arange(11)), *layer.project_context(x))
    gap = jnp.arange(11)[:, None] - jnp.arange(11)
    query, key, value = (jnp.repeat(y, 4 // y.shape[1], axis=1) for y in parts)
    by_hand = relu_attention(query, key, value, mask=(0 <= gap) & (gap < 5))
    assert_close(layer(x), layer._output(x, by_hand), atol=1e-5)
    assert generate(net, IDS, max_new_tokens=3).shape == (2, 3)


# ---- A memory: a class with `length` and `take_in`, and a function that makes it

@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ledger(LayerCache):
    """Keys and values from the last one backwards, so that the newest is always in front."""
    keys: jax.Array
    values: jax.Array
    length: jax.Array

    def take_in(self, keys_new, values_new, mask, num_new=None):
        n, room = keys_new.shape[2], self.keys.shape[2]
        keys, values = (jnp.concatenate([new[:, :, ::-1], old], axis=2)[:, :, :room]
                        for new, old in ((keys_new, self.keys), (values_new, self.values)))
        new = Ledger(keys, values, self.length + n)
        return new, KeysSeen(keys, values, mask, new.length - 1 - jnp.arange(room))   # below 0 there is none yet


def ledger(batch_size, num_kv_heads, head_dim, max_len, dtype):
    shape = batch_size, num_kv_heads, max_len, head_dim
    return Ledger(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((), jnp.int32))


@pytest.mark.parametrize("scan", (False, True))
def test_a_memory(scan):
    net = model(pos_emb_type="rope", attention_softcap=4.0, scan_layers=scan)
    logits, caches = in_pieces(net, kind=ledger)
    assert_close(logits, net(IDS, deterministic=True), atol=1e-5)
    assert isinstance(caches[0], Ledger) and caches[1].nbytes == caches[0].nbytes
    want = generate(net, IDS, max_new_tokens=5)
    assert (generate(net, IDS, max_new_tokens=5, cache_kind=ledger) == want).all()
    assert (caches[0].take(jnp.array([1, 1])).keys[0] == caches[0].keys[1]).all()


# ---- Positions: a frozen dataclass with one method

@dataclass(frozen=True, kw_only=True)
class Spin(Positions):
    """Every channel times the cosine of its position."""
    turns: ClassVar[bool] = True
    speed: float = 0.1

    def turn(self, x, position_ids):
        return x * jnp.cos(self.speed * position_ids)[..., None, :, None].astype(x.dtype)


@dataclass(frozen=True, kw_only=True)
class Near(Positions):
    """A penalty that grows with the logarithm of the distance."""
    def score_mod(self, num_heads):
        return lambda s, b, h, q, k: s - jnp.log1p(abs(q - k).astype(s.dtype))


@pytest.mark.parametrize("scheme", (Spin(), Spin(speed=0.7), Near()))
def test_a_scheme_of_positions(scheme):
    net, blind = model(pos_emb_type=scheme), model(pos_emb_type="none")
    whole = net(IDS, deterministic=True)
    assert float(abs(whole - blind(IDS, deterministic=True)).max()) > 1e-3
    assert_close(in_pieces(net)[0], whole, atol=1e-5)
    assert generate(net, IDS, max_new_tokens=3, prompt_lengths=jnp.array([4, 11])).shape == (2, 3)
    spec = net.config.block_spec(0)
    assert spec_from_dict(spec_to_dict(spec)) == spec


# ---- An option of a block: a class with what is new

class Scaled(EncoderBlock):
    """A learned factor on what attention says, from zero up: the block starts as if it had none."""
    def _make(self, rngs, spec):
        super()._make(rngs, spec)
        self.gain = nnx.Param(jnp.zeros(()))

    def _attend(self, x, *args):
        y, cache = super()._attend(x, *args)
        return x + self.gain[...] * (y - x), cache


@pytest.mark.parametrize("scan", (False, True))
def test_an_option_of_a_block(scan):
    net = model(block=Scaled, scan_layers=scan)
    silent = net(IDS, deterministic=True)
    assert_close(silent, model(block=lambda *args, **kw: Deaf.from_config(*args, **kw))(IDS, deterministic=True), atol=1e-5)
    gains = [p for path, p in nnx.to_flat_state(nnx.state(net, nnx.Param)) if path[-1] == "gain"]
    assert len(gains) == (1 if scan else 2)
    nnx.update(net, nnx.from_flat_state([(path, p.replace(jnp.ones_like(p[...]))) if path[-1] == "gain" else (path, p)
                                         for path, p in nnx.to_flat_state(nnx.state(net, nnx.Param))]))
    assert_close(net(IDS, deterministic=True), model()(IDS, deterministic=True), atol=1e-5)
    assert_close(in_pieces(net)[0], net(IDS, deterministic=True), atol=1e-5)


class Deaf(EncoderBlock):
    """Attention says nothing."""
    def _attend(self, x, mask, deterministic, position_ids, cache, *more): return x, cache


# ---- The seams hold by themselves

def test_a_layer_asks_no_memory_what_it_is():
    """A layer of attention tells memories apart by what they say of themselves."""
    import ast
    import inspect

    from attnax.layers import attention, blocks
    for module in (attention, blocks):
        calls = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Call)]
        asked = [ast.unparse(call) for call in calls if getattr(call.func, "id", None) == "isinstance"]
        asked = [text for text in asked if "Cache" in text]
        assert not asked, (module.__name__, asked)


@declare_kernel(supports_score_mod=True, supports_sinks=True, supports_gqa=True)
def with_everything(query, key, value, *, mask=None, score_mod=None, sinks=None, **words):
    return standard_attention(query, key, value, mask=mask, score_mod=score_mod, sinks=sinks)


def test_a_kernel_says_what_it_applies():
    spec = AttentionSpec(num_heads=4, head_dim=4, num_kv_heads=2, causal=True, sinks=True, softcap=3.0, chunk=4)
    x = jax.random.normal(jax.random.key(1), (2, 11, 16))
    ours, mine = (MultiHeadAttention(nnx.Rngs(0), s, in_features=16) for s in (spec, replace(spec, attention_fn=with_everything)))
    for layer in (ours, mine): layer.sinks[...] = jnp.arange(4.0)
    assert_close(mine(x), ours(x), atol=1e-5)
    step = nnx.jit(lambda layer, x, cache: layer(x, kv_cache=cache))
    cache = init_kv_layer_cache(2, 2, 4, 16)
    out = []
    for piece in jnp.split(x, (3, 4), axis=1):
        y, cache = step(mine, piece, cache)
        out.append(y)
    assert_close(jnp.concatenate(out, 1), ours(x), atol=1e-5)
