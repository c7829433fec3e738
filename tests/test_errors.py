"""What newcomers get wrong is answered in one voice: the argument, the rule, what was received, and what to write instead."""
import inspect
import pickle
import re
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attnax as ax
from attnax.typing import BoundKernel, explain_words, kernel_attr

SOFTMAX = (ax.standard_attention, ax.memory_efficient_attention, ax.flash_attention, ax.pallas_flash_attention, ax.ring_attention)
SHOWN = (*SOFTMAX, ax.ring_attention_reference, ax.explain_attention)  # all that take queries, keys, values and a score mod
lite = partial(ax.lite_attention, gate_proj=lambda p: p)
x = jnp.ones((3, 2, 4, 8))
rngs = nnx.Rngs(0)
sizes = dict(vocab_size=11, d_model=16, num_heads=2, num_layers=1, d_ff=32, max_len=16)
config = ax.TransformerConfig(**sizes)
name = lambda f: getattr(f, "__name__", "lite_attention")


def pages():
    cache = ax.init_paged_kv_cache(num_blocks=4, block_size=4, num_kv_heads=2, head_dim=8, batch_size=3, max_blocks_per_seq=2)
    return partial(ax.paged_attention, cache=cache, sequence_idx=jnp.arange(3))


def test_every_kernel_is_here():
    """A kernel that is added to the library is added to these lists."""
    kernels = {f for f in map(partial(getattr, ax), ax.__all__) if inspect.isfunction(f) and kernel_attr(f, "kernel_kind")}
    assert kernels == {*SOFTMAX, ax.linear_attention, ax.lite_attention, ax.paged_attention,
                       ax.native_paged_attention}


# ---- Lists

@pytest.mark.parametrize("kernel", [*SHOWN, ax.linear_attention, lite], ids=name)
@pytest.mark.parametrize("place", range(3))
def test_list_for_an_array(kernel, place):
    args = [x, x, x]
    args[place] = x.tolist()
    named = ("query", "key", "value")[place]
    with pytest.raises(ValueError, match=f"`{named}` must be an array, got list: jnp.asarray makes one of it"): kernel(*args)
    args[place] = None
    with pytest.raises(ValueError, match=f"`{named}` must be an array, got NoneType"): kernel(*args)


def test_list_for_an_array_elsewhere():
    state = ax.linear_attention(x, x, x, chunk_size=4, return_state=True)[1]
    with pytest.raises(ValueError, match="`key` must be an array, got list"):
        ax.linear_attention_step(x[:, :, :1], [[[[1.0]]]], x[:, :, :1], state)
    with pytest.raises(ValueError, match="`query` must be an array, got list"): pages()(x.tolist())
    cache = pages().keywords["cache"]
    with pytest.raises(ValueError, match="`query` must be an array, got list"): ax.native_paged_attention(x.tolist(), cache)
    for kernel in (*SOFTMAX, ax.explain_attention):
        with pytest.raises(ValueError, match="`sinks` must be an array, got list"): kernel(x, x, x, sinks=[1.0, 2.0])
    with pytest.raises(ValueError, match="`cos` must be an array, got list"): ax.apply_rope(x, [[1.0]], x)


LAYERS = {  # a layer, and the argument that is an array
    "MultiHeadAttention": (lambda: ax.MultiHeadAttention(rngs, num_heads=2, in_features=16), "x"),
    "EncoderBlock": (lambda: ax.EncoderBlock(rngs, 16, 2, 32), "x"),
    "DecoderBlock": (lambda: partial(ax.DecoderBlock(rngs, 16, 2, 32), encoder_output=jnp.ones((1, 2, 16))), "x"),
    "MixtureOfExperts": (lambda: ax.MixtureOfExperts(rngs, d_model=16, d_ff=32, num_experts=2), "x"),
    "RMSNorm": (lambda: ax.RMSNorm(16, rngs=rngs), "x"),
    "RotaryEmbedding": (lambda: ax.RotaryEmbedding(16, 8), "x"),
    "PositionalEncoding": (lambda: ax.PositionalEncoding(8, 16), "x"),
    "LearnedPositionalEmbedding": (lambda: ax.LearnedPositionalEmbedding(rngs, num_positions=8, d_model=16), "x"),
    "PatchEmbedding": (lambda: ax.PatchEmbedding(rngs, image_size=4, patch_size=2, num_channels=1, d_model=16), "images"),
    "VisionTransformer": (lambda: ax.VisionTransformer(rngs, ax.VisionTransformerConfig(
        image_size=4, patch_size=2, num_channels=1, d_model=16, num_heads=2, num_layers=1, d_ff=32)), "images"),
    "mean_pool": (lambda: ax.mean_pool, "hidden")}


@pytest.mark.parametrize("layer", LAYERS)
def test_list_for_an_array_in_layers(layer):
    make, argument = LAYERS[layer]
    with pytest.raises(ValueError, match=f"`{argument}` must be an array, got list"): make()([[[1.0] * 16] * 2])


def test_ids_may_be_lists():
    """Ids are integers, so there is nothing to choose: every model takes lists, as `generate` does, and a ragged one is named."""
    lm = ax.TransformerLM(rngs, config)
    lm.eval()
    np.testing.assert_allclose(lm([[1, 2]]), lm(jnp.array([[1, 2]])))
    assert ax.generate(lm, [[1, 2]], max_new_tokens=2).shape == (1, 2)
    assert ax.TransformerEncoder(rngs, config)([[1, 2]]).shape == (1, 2, 16)
    assert ax.EncoderDecoder(rngs, config)([[1, 2]], [[1, 2]]).shape == (1, 2, 11)
    for model in (lm, partial(ax.generate, lm, max_new_tokens=2)):
        with pytest.raises(ValueError, match="must be rows of one length"): model([[1, 2], [3]])


# ---- Words from elsewhere

WORDS = [("causal", "score_mod=causal_mod()"), ("is_causal", "score_mod=causal_mod()"),
         ("bias", "score_mod=additive_bias_mod(bias)"), ("attn_bias", "score_mod=additive_bias_mod(bias)"),
         ("window_size", "score_mod=sliding_window_mod(window)"),
         ("attn_mask", "mask="), ("dropout_p", "dropout_rate="), ("segment_ids", "score_mod=document_mask_mod(segment_ids)")]


@pytest.mark.parametrize("kernel", SHOWN, ids=name)
@pytest.mark.parametrize("word, instead", WORDS)
def test_words_of_other_libraries(kernel, word, instead):
    said = re.escape(f"{kernel.__name__}() got an unexpected keyword argument '{word}': write `{instead}`")
    with pytest.raises(TypeError, match=said): kernel(x, x, x, **{word: True})


def test_what_is_suggested_works():
    """Each suggestion, carried out: the names exist and the values are those of the formula."""
    assert {w.split("=")[1].split("(")[0] for _, w in WORDS if w.startswith("score_mod")} <= set(ax.__all__)
    q = jax.random.normal(jax.random.key(0), (1, 2, 4, 8))
    causal = ax.standard_attention(q, q, q, mask=ax.make_causal_mask(4))
    for kernel in SOFTMAX:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")   # pallas_flash_attention says that it runs another kernel here
            np.testing.assert_allclose(kernel(q, q, q, score_mod=ax.causal_mod()), causal, atol=1e-5)


def test_words_where_there_are_no_scores():
    with pytest.raises(TypeError, match=r"linear_attention\(\).*'is_causal': write `causal=`"):
        ax.linear_attention(x, x, x, is_causal=True)
    for kernel in (ax.linear_attention, lite):
        with pytest.raises(TypeError, match="'bias': it has no scores to act on; use a softmax kernel"): kernel(x, x, x, bias=x)
    with pytest.raises(TypeError, match="'causal': it has no scores to act on"): lite(x, x, x, causal=True)
    with pytest.raises(TypeError, match=r"'is_causal': write `score_mod=causal_mod\(\)`"): pages()(x, is_causal=True)
    with pytest.raises(TypeError, match=r"linear_attention_step\(\).*'maks': did you mean `mask`\?"):
        ax.linear_attention_step(x, x, x, None, maks=None)


def test_a_mask_by_position():
    for kernel in (*SOFTMAX, ax.explain_attention):
        said = f"{kernel.__name__}.. takes query, key, value by position and the rest by keyword, got 4 by position"
        with pytest.raises(TypeError, match=said): kernel(x, x, x, None)


def test_kernels_are_still_values():
    """The check is invisible: signature, name, pickling, equality, tracing."""
    for kernel in SOFTMAX:
        assert pickle.loads(pickle.dumps(kernel)) is kernel and kernel.__name__ in ax.__all__
        assert list(inspect.signature(kernel).parameters)[:4] == ["query", "key", "value", "mask"]
        assert BoundKernel(kernel, scale=1.0) == BoundKernel(kernel, scale=1.0)
        assert not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(kernel).parameters.values())
    bound = pickle.loads(pickle.dumps(BoundKernel(ax.flash_attention, block_size=64)))
    assert bound == BoundKernel(ax.flash_attention, block_size=64)


def test_fallback_warns_where_the_user_wrote_it():
    from attnax.kernels import flash
    flash._told.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ax.pallas_flash_attention(x, x, x)
    assert [w.filename for w in caught if w.category is flash.FallbackWarning] == [__file__]


@pytest.mark.parametrize("make, said", [
    (lambda: ax.MultiHeadAttention(rngs, d_model=16, num_heads=2), r"MultiHeadAttention\(\).*'d_model': write `in_features=`"),
    (lambda: ax.MultiHeadAttention(rngs, embed_dim=16, num_heads=2), "'embed_dim': write `in_features=`"),
    (lambda: ax.EncoderBlock(rngs, in_features=16, num_heads=2, d_ff=32), r"EncoderBlock\(\).*'in_features': write `d_model=`"),
    (lambda: ax.DecoderBlock(rngs, 16, 2, 32, hidden_size=3), r"DecoderBlock\(\).*'hidden_size': write `d_model=`"),
    (lambda: ax.FeedForward(rngs, in_features=16, d_ff=32), "write `d_model=`"),
    (lambda: ax.RMSNorm(d_model=16, rngs=rngs), "write `num_features=`"),
    (lambda: ax.TransformerConfig(**sizes, hidden_size=3), r"TransformerConfig\(\).*'hidden_size': write `d_model=`"),
    (lambda: ax.VisionTransformerConfig(num_hidden_layers=3), "write `num_layers=`"),
    (lambda: ax.TransformerLM(rngs, config)(jnp.ones((1, 2), int), attention_mask=None), "write `padding_mask=`"),
    (lambda: ax.MultiHeadAttention(rngs, num_heads=2, in_features=16)(jnp.ones((1, 2, 16)), is_causal=True),
     r"write `score_mod=causal_mod\(\)`")], ids=lambda x: x if isinstance(x, str) else "")
def test_width_by_another_name(make, said):
    with pytest.raises(TypeError, match=said): make()


@pytest.mark.parametrize("make, said", [
    (lambda: ax.VisionTransformer(rngs, config), "VisionTransformerConfig, got TransformerConfig"),
    (lambda: ax.TransformerLM(rngs, ax.VisionTransformerConfig()), "TransformerConfig, got VisionTransformerConfig"),
    (lambda: ax.SentenceEncoder(rngs, ax.VisionTransformerConfig()), "TransformerConfig, got VisionTransformerConfig"),
    (lambda: ax.EncoderDecoder(rngs, config, encoder_config=ax.VisionTransformerConfig()), "got VisionTransformerConfig"),
    (lambda: ax.Whisper(rngs, config), "WhisperConfig, got TransformerConfig"),
    (lambda: ax.AudioEncoder(rngs, ax.VisionTransformerConfig()), "TransformerConfig, got VisionTransformerConfig"),
    (lambda: ax.TransformerEncoder(rngs, dict(sizes)), "TransformerConfig, got dict")])
def test_config_of_another_model(make, said):
    with pytest.raises(ValueError, match=f"`config` must be a {said}" if said[:3] != "got" else said): make()


# ---- rngs

MADE = {"MultiHeadAttention": ((), dict(num_heads=2, in_features=16)), "EncoderBlock": ((16, 2, 32), {}),
        "DecoderBlock": ((16, 2, 32), {}), "FeedForward": ((16, 32), {}),
        "MixtureOfExperts": ((), dict(d_model=16, d_ff=32, num_experts=2)), "TokenEmbedding": ((11, 16), {}),
        "LearnedPositionalEmbedding": ((), dict(num_positions=8, d_model=16)),
        "PatchEmbedding": ((), dict(image_size=4, patch_size=2, num_channels=1, d_model=16)), "TransformerLM": ((config,), {}),
        "TransformerEncoder": ((config,), {}), "TransformerDecoder": ((config,), {}), "EncoderDecoder": ((config,), {})}


@pytest.mark.parametrize("kind", MADE)
def test_rngs(kind):
    """A seed, a key, and `rngs` as flax has it: last and by keyword. By keyword throughout it may stand anywhere."""
    make, (args, words) = getattr(ax, kind), MADE[kind]
    for wrong in (0, jax.random.key(0)):
        with pytest.raises(ValueError, match=r"`rngs` comes first and must be an nnx.Rngs, such as nnx.Rngs\(0\), got"):
            make(wrong, *args, **words)
    if args:
        with pytest.raises(TypeError, match=rf"{kind}\(\) takes `rngs` first, or every argument by keyword: got"):
            make(*args, **words, rngs=rngs)
        with pytest.raises(ValueError, match="`rngs` comes first"): make(args[0], rngs, *args[1:], **words)
    else: assert isinstance(make(**words, rngs=rngs), make)


# ---- Key masks

def test_key_mask_of_rank_two():
    mask, padding = jnp.ones((3, 4), bool), ax.make_padding_mask(jnp.array([[1, 1, 0, 0]] * 3))
    q = jnp.ones((3, 2, 5, 8))
    for kernel in SHOWN:
        said = re.escape("got (3, 4): a mask of keys is mask[:, None, None], as `make_padding_mask` makes it")
        with pytest.raises(ValueError, match=said): kernel(q, x, x, mask=mask)
    for kernel in (partial(ax.linear_attention, chunk_size=4), lite):
        said = re.escape("got (3, 4), which goes in as mask[:, None, None]")
        with pytest.raises(ValueError, match=said): kernel(x, x, x, mask=mask)
    layer = ax.MultiHeadAttention(rngs, num_heads=2, in_features=16)
    h = jnp.ones((3, 4, 16))
    for call in (layer, ax.EncoderBlock(rngs, 16, 2, 32)):
        with pytest.raises(ValueError, match="a mask of keys is mask"): call(h, mask=mask)
    assert padding.shape == mask[:, None, None].shape and layer(h, mask=padding).shape == h.shape
    with pytest.raises(ValueError, match=re.escape("must broadcast to (batch, heads, q, k) = (3, 2, 4, 4), got (2, 7)") + "$"):
        ax.standard_attention(x, x, x, mask=jnp.ones((2, 7), bool))   # something else is not told what it is not


def test_explain_words_passes_what_fits():
    calls = []
    @explain_words
    def f(a, /, b, *rest, c=1): calls.append((a, b, rest, c))
    f(1, 2, 3, 4, c=5)
    assert calls == [(1, 2, (3, 4), 5)]
