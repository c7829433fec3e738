"""`python typed_calls.py attnax.layers ...`: beartype on every function of these packages, then a few calls over the whole
surface. `tests/test_types.py` runs it in a process of its own, since beartype has to come before the first import."""
import sys

import jaxtyping
from beartype import BeartypeConf, BeartypeDecorPlace
from beartype.claw import beartype_packages
from beartype.roar import BeartypeCallHintViolation


class Loosely:
    """A kind of array without the shapes that have to be computed, such as "d/2": these are for readers."""
    def __init__(self, kind): self.kind = kind
    def __getitem__(self, item): return self.kind[item[0], "..." if set("/*") & set(item[1].replace(" *", "")[1:]) else item[1]]


for name in ("Float", "Int", "Bool", "Num"): setattr(jaxtyping, name, Loosely(getattr(jaxtyping, name)))
# Innermost: `custom_vjp` and `dataclass` see what was written, and JAX may fill the records with what it likes
beartype_packages(sys.argv[1:], conf=BeartypeConf(
    claw_decor_place_func=BeartypeDecorPlace.FIRST, claw_decor_place_type=BeartypeDecorPlace.FIRST))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from flax import nnx  # noqa: E402

import attnax  # noqa: E402
from attnax import layers, models  # noqa: E402
from attnax.layers import cache  # noqa: E402
from attnax.layers.rope import RopeScaling, RotaryEmbedding  # noqa: E402

ids, hidden = jnp.arange(14).reshape(2, 7), jnp.ones((2, 5, 16))
base = dict(vocab_size=16, d_model=16, num_heads=2, num_layers=2, d_ff=16, max_len=16, dropout_rate=0.1)


def config(**words): return attnax.TransformerConfig(**(base | words))


# layers, over the kernels
for words in (dict(causal=True, qk_norm=True, softcap=9.0), dict(use_rope=True, num_kv_heads=2, attention_type="flash"),
              dict(attention_type="linear", causal=True), dict(attention_type="lite"), dict(attention_window=4)):
    attnax.MultiHeadAttention(nnx.Rngs(0), num_heads=4, in_features=16, **words)(hidden)
attention = attnax.MultiHeadAttention(nnx.Rngs(0), num_heads=4, in_features=16)
attention(hidden, context_kv=attention.project_context(jnp.ones((2, 3, 16))))
attention.attention_weights(hidden, position_ids=None)
for scaling in (None, RopeScaling(kind="yarn", factor=4.0), RopeScaling(kind="dynamic", factor=2.0)):
    RotaryEmbedding(16, 64, scaling=scaling)(hidden)
spec = config(num_experts=2, norm_type="rms").block_spec(1)
assert layers.specs.spec_from_dict(layers.specs.spec_to_dict(spec)) == spec
layers.EncoderBlock(nnx.Rngs(0), spec)(hidden, return_aux=True)
print("layers", flush=True)

lm = attnax.TransformerLM(nnx.Rngs(0), config(pos_emb_type="rope", num_kv_heads=1, attention_window=(3, None)))
for kind in ("everything", "int8", "pages"):
    kept = layers.init_decoder_kv_caches_from_config(lm.config, batch_size=2, max_len=16, kind=kind)
    kept = cache.caches_per_row(lm(ids, layer_kv_caches=kept, deterministic=True)[1])
    kept = cache.take_caches(kept, jnp.array([1, 0]))
    lm(ids[:, :2], layer_kv_caches=kept, num_new_tokens=jnp.array([1, 2]), deterministic=True)
print("caches", flush=True)

for words in (dict(scan_layers=True, remat="dots", pos_emb_type="alibi"), dict(num_experts=2, compute_dtype="bfloat16"),
              dict(attention_type="linear", pos_emb_type="learned"), dict(layer_pattern=({}, dict(keys_from=-1)))):
    lm = attnax.TransformerLM(nnx.Rngs(0), config(**words))
    lm(ids, padding_mask=ids > 0, return_aux=True, return_hidden_states=True)
attnax.generate(lm, [[1, 2, 0], [3, 4, 5]], max_new_tokens=2, prompt_lengths=[2, 3], temperature=0.7, top_k=4, top_p=0.9,
                rng=0, stop_token=3)
both = attnax.EncoderDecoder(nnx.Rngs(0), config())
attnax.generate(both, ids[:, :1], source=ids, max_new_tokens=2)
both(ids, ids, source_mask=ids > 0)
sentences = models.SentenceEncoder(nnx.Rngs(0), config(), pooler=True)
sentences.pool(sentences(ids)), sentences.embed(ids, ids > 0), sentences.encoder.attention_maps(ids)
pictures = attnax.VisionTransformer(nnx.Rngs(0), attnax.VisionTransformerConfig(
    image_size=8, patch_size=4, d_model=16, num_heads=2, num_layers=1, d_ff=16, num_classes=3, pool="attention"))
pictures.resized(12)(jnp.ones((2, 12, 12, 3)), return_aux=True)
listens = models.Whisper(nnx.Rngs(0), models.WhisperConfig(encoder=config(), decoder=config(), num_mels=8))
listens(jnp.ones((1, 8, 32)), ids[:1])
jax.grad(lambda x: layers.unstack_layers(listens).encoder(x, deterministic=True).sum())(jnp.ones((1, 8, 32)))
print("models", flush=True)

sound = np.sin(np.arange(4000) / 9)
attnax.audio.log_mel_spectrogram(attnax.audio.resample(sound, 16000, 8000), num_mels=20, sample_rate=8000, chunk_seconds=None)
print("sound", flush=True)

try: attnax.MultiHeadAttention(nnx.Rngs(0), num_heads=4, in_features=16)(jnp.ones((2, 5, 16), jnp.int32))
except BeartypeCallHintViolation: print("wrong")
