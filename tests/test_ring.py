"""A ring of devices is one large device: values and all gradients for every bundled mod on 1, 2, 4 and 8 devices, with grouped
heads and a length that no ring divides; memory that falls with the devices; a whole model that is trained and decoded; and two
processes that share one mesh over `jax.distributed`.
"""
import os
import socket
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding

import attnax as ax
from attnax.kernels.sharded_ring import RingAttention
from attnax.layers.sequence import SequenceLayerCache, sequence_caches
from attnax.models.generate import generate

pytestmark = pytest.mark.skipif(len(jax.devices()) < 8, reason="needs eight devices")
QUICK = {"xla_backend_optimization_level": 0}  # programs that run once
LENGTH = 45
rng = np.random.default_rng(0)
draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
QKV = draw(2, 4, LENGTH, 16), draw(2, 2, LENGTH, 16), draw(2, 2, LENGTH, 8)
LEARNED = draw(1, 4, LENGTH, LENGTH), draw(8, 4)
IDS = np.sort(rng.integers(0, 4, (2, LENGTH)))
MODS = {
    "causal": lambda bias, table: ax.causal_mod(),
    "window": lambda bias, table: ax.sliding_window_mod(7),
    "window to both sides": lambda bias, table: ax.sliding_window_mod(5, causal=False),
    "chunks": lambda bias, table: ax.compose_score_mods(ax.chunked_mod(10), ax.causal_mod()),
    "prefix": lambda bias, table: ax.prefix_lm_mod(jnp.array([5, 30])),
    "documents": lambda bias, table: ax.document_mask_mod(jnp.asarray(IDS)),
    "ALiBi": lambda bias, table: ax.compose_score_mods(ax.alibi_mod(4), ax.causal_mod()),
    "bias": lambda bias, table: ax.additive_bias_mod(bias),
    "T5": lambda bias, table: ax.relative_position_bias_mod(table),
    "softcap": lambda bias, table: ax.compose_score_mods(ax.softcap_mod(3.0), ax.causal_mod())}


def mesh_of(n, kind=AxisType.Auto):
    return jax.make_mesh((n,), ("seq",), devices=jax.devices()[:n], axis_types=(kind,))


def with_gradients(kernel, mod):
    """Output and lse, and gradients of queries, keys, values and learned arrays."""
    def loss(q, k, v, bias, table):
        out, lse = kernel(q, k, v, score_mod=MODS[mod](bias, table), return_lse=True)
        return jnp.sin(out).sum() + jnp.cos(lse).sum(), (out, lse)
    return jax.grad(loss, (0, 1, 2, 3, 4), has_aux=True)


def run(fn, *args): return jax.jit(fn).lower(*args).compile(compiler_options=QUICK)(*args)


def close(got, want, tol=2e-5):
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, atol=tol * (1 + abs(y).max()), rtol=0)


RINGS = (1, "contiguous"), (2, "zigzag"), (4, "contiguous"), (8, "zigzag")


@pytest.mark.parametrize("mod", MODS)
def test_every_mod_on_1_2_4_8_devices(mod):
    """ATTNAX_RING=all: every mod on every ring; else on the longest and one more, each of which has three mods or four."""
    want = run(with_gradients(ax.standard_attention, mod), *QKV, *LEARNED)
    turn = list(MODS).index(mod) % 3
    for n, layout in RINGS if os.environ.get("ATTNAX_RING") == "all" else (RINGS[turn], RINGS[3]):
        ring = RingAttention(mesh_of(n), layout=layout, block_size=8)
        close(run(with_gradients(ring, mod), *QKV, *LEARNED), want)


def test_memory_falls_with_the_devices():
    x = jax.ShapeDtypeStruct((1, 4, 4096, 32), jnp.float32)
    def temp(n):
        ring = RingAttention(mesh_of(n), layout="zigzag", arranged=True, block_size=32)
        laid = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(ring.mesh, ring.spec))
        def loss(q, k, v): return (ring(q, k, v, score_mod=ax.causal_mod()) ** 2).sum()
        program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(laid, laid, laid).compile(compiler_options=QUICK)
        assert "all-gather" not in program.as_text()
        return program.memory_analysis().temp_size_in_bytes
    # queries, keys, values, what is on its way, gradients: some ten arrays of a device's share of the sequence
    shares = {n: temp(n) / (4 * x.size / n) for n in (1, 2, 4, 8)}
    assert max(shares.values()) < 11, shares


CONFIG = ax.TransformerConfig(
    vocab_size=64, d_model=32, num_heads=4, num_kv_heads=2, num_layers=2, d_ff=64, max_len=96, pos_emb_type="rope",
    norm_type="rms", ff_activation="swiglu", use_bias=False, dropout_rate=0.0)
IDS_OF_MODEL = np.random.default_rng(1).integers(0, 64, (2, 65))


def three_steps(kernel, ids, targets):
    """Losses of a model whose attention is `kernel`, and the model."""
    graph, weights, rest = nnx.split(ax.TransformerLM(nnx.Rngs(0), CONFIG, attention_fn=kernel), nnx.Param, ...)
    def loss(weights):
        log_probs = jax.nn.log_softmax(nnx.merge(graph, weights, rest)(ids, deterministic=True))
        return -jnp.take_along_axis(log_probs, targets[..., None], -1).mean()
    def step(weights):
        value, grads = jax.value_and_grad(loss)(weights)
        return value, jax.tree.map(lambda w, g: w - 0.5 * g, weights, grads)
    program = jax.jit(step).lower(weights).compile(compiler_options=QUICK)
    losses = []
    for _ in range(3):
        value, weights = program(weights)
        losses.append(float(value))
    return program, losses, nnx.merge(graph, weights, rest)


def test_a_model_is_trained_and_decoded_with_its_sequence_cut():
    ring = RingAttention(mesh_of(8), layout="zigzag", arranged=True, block_size=8)
    ids, targets = IDS_OF_MODEL[:, :-1], IDS_OF_MODEL[:, 1:]
    _, want, plain = three_steps(None, ids, targets)
    laid = [jax.device_put(ring.arrange(x), ring.token_sharding) for x in (ids, targets)]
    program, got, model = three_steps(ring, *laid)
    assert "all-gather" not in program.as_text()
    assert want[0] > want[1] > want[2]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    prompt = IDS_OF_MODEL[:, :40]
    words = dict(max_new_tokens=12, temperature=0.0)
    tokens = generate(model, prompt, **words, cache_kind=sequence_caches(ring))
    np.testing.assert_array_equal(tokens, generate(plain, prompt, **words))


def test_caches_of_a_stack_in_one_loop_are_cut_too():
    ring = RingAttention(mesh_of(8))
    caches = ax.init_decoder_kv_caches_from_config(
        replace(CONFIG, scan_layers=True), batch_size=1, max_len=64, kind=sequence_caches(ring))
    assert all(isinstance(c, SequenceLayerCache) for c in caches.kinds)
    model = ax.TransformerLM(nnx.Rngs(0), replace(CONFIG, scan_layers=True))
    tokens = generate(model, IDS_OF_MODEL[:1, :40], max_new_tokens=8, cache_kind=sequence_caches(ring))
    np.testing.assert_array_equal(tokens, generate(model, IDS_OF_MODEL[:1, :40], max_new_tokens=8))


PROCESS = """
import sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import AxisType, NamedSharding
import attnax as ax
from attnax.kernels.sharded_ring import RingAttention

assert (jax.process_count(), jax.device_count(), jax.local_device_count()) == (2, 4, 2)
mesh = jax.make_mesh((4,), ("seq",), axis_types=(AxisType.Auto,))
ring = RingAttention(mesh, layout="zigzag", arranged=True, block_size=4)
rng = np.random.default_rng(0)
whole = [rng.normal(size=(1, h, 48, 8)).astype(np.float32) for h in (4, 2, 2)]
def loss(attend):
    def run(q, k, v):
        out = attend(q, k, v, score_mod=ax.compose_score_mods(ax.alibi_mod(4), ax.causal_mod()))
        return jnp.sin(out * q).sum(), out
    return jax.jit(jax.grad(run, (0, 1, 2), has_aux=True))
order = np.asarray(ring.token_positions(48))
place = NamedSharding(mesh, ring.spec)
laid = [jax.make_array_from_callback(x.shape, place, lambda at, x=x: x[:, :, order][at]) for x in whole]
got = [process_allgather(x, tiled=True) for x in jax.tree.leaves(loss(ring)(*laid))]
for x, y in zip(got, jax.tree.leaves(loss(ax.standard_attention)(*whole)), strict=True):
    np.testing.assert_allclose(x, np.asarray(y)[:, :, order], atol=1e-5)
jax.distributed.shutdown()
print("equal")
"""


def test_two_processes_share_a_ring():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    each = [subprocess.Popen([sys.executable, "-c", PROCESS, address, str(i)], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for i in range(2)]
    try: said = [p.communicate(timeout=300)[0] for p in each]
    finally:
        for p in each: p.kill()
    for p, text in zip(each, said, strict=True): assert p.returncode == 0 and "equal" in text, text[-3000:]
