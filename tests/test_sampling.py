"""Generation with settings, held against transformers and against loops by hand, where a page would need weights or another
page."""
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attnax import EncoderDecoder, TransformerConfig, TransformerLM, generate
from attnax.models.sampling import Automaton, Sampling
from attnax.models.streaming import stream
from attnax.pretrained import load_pretrained

fixtures = Path(__file__).parent.parent / "nbs" / "fixtures"


def test_written_as_transformers_writes():
    """Greedy generation under penalties, bans and several stop tokens: each row of a padded batch is what transformers makes of
    the row alone."""
    model = load_pretrained(fixtures / "pretrained" / "llama")
    with np.load(fixtures / "sampling.npz") as file: runs = json.loads(str(file["written"]))
    for run in runs:
        how, prompts = run["settings"], run["prompts"]
        how["logit_bias"] = {int(token): x for token, x in how.get("logit_bias", {}).items()}
        longest = max(map(len, prompts))
        mask = np.array([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        ids = np.array([[3] * (longest - len(p)) + p for p in prompts])
        want = np.full((len(prompts), 14), -1)
        for row, tokens in zip(want, run["tokens"]): row[:len(tokens)] = tokens
        got = generate(model, ids, attention_mask=mask, max_new_tokens=14, pad_token_id=-1, sampling=Sampling(**how))
        np.testing.assert_array_equal(got, want)
        some = np.stack(list(stream(model, ids, attention_mask=mask, max_new_tokens=14, pad_token_id=-1, **how)), 1)
        np.testing.assert_array_equal(some, want[:, :some.shape[1]])


def test_an_encoders_tokens_are_not_penalised():
    """Penalties count what the decoder has: its start and its text, not the source, though both share a vocabulary."""
    config = TransformerConfig(vocab_size=23, d_model=16, num_heads=2, num_layers=1, d_ff=16, max_len=24, dropout_rate=0.0,
                               pos_emb_type="rope", tie_embeddings=False)
    model = EncoderDecoder(nnx.Rngs(2), config)
    source, start = jax.random.randint(jax.random.key(0), (2, 9), 0, 23), np.array([[1, 4], [2, 2]])
    whole = nnx.jit(lambda model, ids: model(source, ids, deterministic=True))
    ids = np.pad(start, ((0, 0), (0, 8)))
    for place in range(2, 10):
        logits = np.asarray(whole(model, ids))[:, place - 1].astype(np.float64)
        for row, text in zip(logits, ids[:, :place]):
            there, (new, count) = np.unique(text), np.unique(text[2:], return_counts=True)
            row[there] = np.where(row[there] < 0, row[there] * 1.8, row[there] / 1.8)
            row[new] -= 0.25 + 0.125 * count
        ids[:, place] = logits.argmax(-1)
    got = generate(model, start, source=source, max_new_tokens=8, repetition_penalty=1.8, presence_penalty=0.25,
                   frequency_penalty=0.125)
    np.testing.assert_array_equal(got, ids[:, 2:])
    assert set(source[0].tolist()) & set(ids[0, 2:].tolist()), "a token of the source has to come for this to say anything"


def test_left_padding_of_a_tokenizer():
    """With a mask, a left-padded row is the row alone; without one, its padding is text."""
    lm = TransformerLM(nnx.Rngs(0), TransformerConfig(vocab_size=50, d_model=32, num_heads=4, num_layers=1, d_ff=48, max_len=32,
                                                      pos_emb_type="rope", dropout_rate=0.0, tie_embeddings=False))
    ids, mask = np.array([[0, 0, 7, 9], [5, 6, 7, 8]]), np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    got = generate(lm, ids, attention_mask=mask, max_new_tokens=6)
    np.testing.assert_array_equal(got[0], generate(lm, ids[:1, 2:], max_new_tokens=6)[0])
    traced = jax.jit(lambda ids, mask: generate(lm, ids, attention_mask=mask, max_new_tokens=6))(ids, jnp.array(mask))
    np.testing.assert_array_equal(traced, got)


def test_strict_modes():
    """No implicit rank or dtype promotion, with 64-bit numbers too, whatever is on; only traced."""
    lm = TransformerLM(nnx.Rngs(0), TransformerConfig(vocab_size=17, d_model=16, num_heads=4, num_layers=1, d_ff=32, max_len=32))
    table = Automaton(np.arange(34).reshape(2, 17) % 2)
    how = dict(temperature=0.7, top_p=0.9, top_k=3, min_p=0.1, typical_p=0.9, repetition_penalty=1.2, presence_penalty=0.1,
               frequency_penalty=0.2, logit_bias={3: 1.0}, suppress_tokens=[2], begin_suppress_tokens=[4], min_new_tokens=2,
               stop_token=[5, 6], processors=[table], rng=0, return_log_probs=True, max_new_tokens=4)
    graph, params, rest = nnx.split(lm, nnx.Param, ...)
    for wide in (False, True):
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"), jax.enable_x64(wide):
            for more in (how, how | dict(prompt_lengths=jnp.array([3, 5], jnp.int32))):
                def write(params, rest, ids, more=more): return generate(nnx.merge(graph, params, rest), ids, **more)
                said = jax.eval_shape(write, params, rest, jax.ShapeDtypeStruct((2, 5), jnp.int32))
                assert [x.dtype for x in said] == [jnp.int32, jnp.float32, jnp.float32]
