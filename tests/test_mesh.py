"""A batch that is sharded stays sharded: under plain `jit`, with automatic and with explicit axes, for every kernel that computes
whole sequences, forward, backward and in a Hessian-vector product; and a training step of a language model gathers nothing.
"""
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import attnax as ax

pytestmark = pytest.mark.skipif(len(jax.devices()) < 4, reason="needs four devices")
rng = np.random.default_rng(0)
draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
QKV = draw(4, 4, 72, 16), draw(4, 2, 72, 16), draw(4, 2, 72, 16)
LEARNED = np.array([0.1, 0.2, 0.3, 0.4], np.float32), draw(8, 4)
SEEN = np.arange(72)[None] % 7 != np.array([1, 2, 3, 4])[:, None]
IDS = np.arange(72)[None] // np.array([20, 25, 30, 35])[:, None]
KERNELS = {"blockwise": partial(ax.memory_efficient_attention, block_size=32), "flash": ax.flash_attention,
           "standard": ax.standard_attention,
           "pallas": partial(ax.pallas_flash_attention, interpret=True, block_q=32, block_kv=32, on_fallback="error")}
MODS = {"none": lambda *_: None, "causal": lambda *_: ax.causal_mod(),
        "documents": lambda *_: ax.document_mask_mod(jnp.asarray(IDS)),
        "by sequence and head": lambda slope, _: lambda s, b, h, i, j: jnp.where(
            j <= i + 3, s - slope[h] * (i - j) * (b + 1), -jnp.inf),
        "T5": lambda _, table: ax.relative_position_bias_mod(table)}
PLACES = P("data"), P(None, "model"), P("data", "model"), P(("data", "model"))


def mesh_of(kind): return jax.make_mesh((2, 2), ("data", "model"), axis_types=(kind,) * 2)


def values_and_gradients(kernel, mod, dropout: bool):
    """A function of queries, keys, values, learned arrays and a mask: output, lse, and gradients."""
    drop = dict(dropout_rng=jax.random.key(0), dropout_rate=0.2, deterministic=False) if dropout else {}
    def loss(q, k, v, slope, table, seen):
        out, lse = kernel(q, k, v, score_mod=MODS[mod](slope, table), mask=seen[:, None, None], return_lse=True, **drop)
        return jnp.sin(out).sum() + jnp.cos(lse).sum(), out
    return jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3, 4), has_aux=True))


def look(fn, *args):
    """How many arrays the program gathers on every device, and its results."""
    compiled = fn.lower(*args).compile()
    return compiled.as_text().count(" all-gather("), compiled(*args)


def close(got, want, tol=2e-5):
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), atol=tol * (1 + abs(np.asarray(y)).max()), rtol=0)


@cache
def on_one_device(mod, dropout):
    """What the formula gives."""
    return jax.tree.map(np.asarray, values_and_gradients(KERNELS["standard"], mod, dropout)(*QKV, *LEARNED, SEEN))


ALL = ("none", False), ("causal", True), ("documents", False), ("by sequence and head", True), ("T5", False)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name, cases", [("blockwise", ALL), ("flash", ALL[3:4]), ("pallas", ALL[3:])], ids=lambda x: str(x)[:9])
def test_kernel_stays_on_its_share(name, cases, kind):
    """Output and gradients are those of one device and lie as what they belong to; nothing long is gathered."""
    for mod, dropout in cases:
        fn, mesh, want = values_and_gradients(KERNELS[name], mod, dropout), mesh_of(kind), on_one_device(mod, dropout)
        for where in PLACES if (name, mod) == ("blockwise", "by sequence and head") else PLACES[2:3]:
            with jax.set_mesh(mesh):
                args = [jax.device_put(x, NamedSharding(mesh, where)) for x in QKV]
                gathers, ((_, out), grads) = look(fn, *args, *LEARNED, SEEN)
                # look-ups by query and key: heads are taken whole
                whole_heads = mod == "T5" and name != "pallas" and len(where) == 2
                few = 1 if kind is AxisType.Explicit and len(where) == 2 else 0     # the gradient of four slopes
                assert gathers <= (3 if whole_heads else few), (mod, where, gathers)
                close(((want[0][0], out), grads), want)
                if not whole_heads:
                    for x in (out, *grads[:3]): assert x.sharding.is_equivalent_to(args[0].sharding, 4), (mod, where)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_grouped_heads_of_the_formula_stay_on_their_share(kind):
    q, k, v = QKV[0], *(x[:, :2] for x in QKV[1:])
    fn = jax.jit(jax.value_and_grad(lambda *a: (ax.standard_attention(*a, score_mod=ax.causal_mod()) ** 2).sum(), (0, 1, 2)))
    want, mesh = jax.tree.map(np.asarray, fn(q, k, v)), mesh_of(kind)
    with jax.set_mesh(mesh):
        args = [jax.device_put(x, NamedSharding(mesh, P("data", "model"))) for x in (q, k, v)]
        gathers, got = look(fn, *args)
    assert gathers == 0
    close(got, want)
    for x, like in zip(got[1], args): assert x.sharding.is_equivalent_to(like.sharding, 4)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_second_derivative_stays_on_its_share(kind):
    def hvp(kernel):
        def loss(q, k, v, slope): return jnp.sin(kernel(q, k, v, score_mod=MODS["by sequence and head"](slope, None))).sum()
        return jax.jit(lambda *a: jax.jvp(jax.grad(loss, (0, 1, 2, 3)), a, a)[1])
    want, mesh = jax.tree.map(np.asarray, hvp(KERNELS["standard"])(*QKV, LEARNED[0])), mesh_of(kind)
    with jax.set_mesh(mesh):
        args = [jax.device_put(x, NamedSharding(mesh, P("data", "model"))) for x in QKV]
        gathers, got = look(hvp(KERNELS["blockwise"]), *args, LEARNED[0])
    assert gathers <= (kind is AxisType.Explicit)
    close(got, want, 1e-4)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_linear_attention_stays_on_its_share(kind):
    fn = jax.jit(jax.value_and_grad(lambda q, k, v: (ax.linear_attention(q, k, v, chunk_size=8) ** 2).sum(), (0, 1, 2)))
    want, mesh = jax.tree.map(np.asarray, fn(*QKV)), mesh_of(kind)
    for where in PLACES:
        with jax.set_mesh(mesh):
            gathers, got = look(fn, *(jax.device_put(x, NamedSharding(mesh, where)) for x in QKV))
        assert gathers == 0, where
        close(got, want, 1e-4)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_cache_update_stays_on_its_share(kind):
    """New keys and values are written where their sequence and head lie."""
    update = jax.jit(lambda cache, k, v, start: ax.update_kv_layer_cache(cache, k, v, start))
    new, start = [draw(4, 2, 3, 16) for _ in range(2)], jnp.int32(5)
    want, mesh = update(ax.init_kv_layer_cache(4, 2, 16, 12), *new, start), mesh_of(kind)
    for where in PLACES:
        lie = NamedSharding(mesh, where)
        with jax.set_mesh(mesh):
            cache = ax.init_kv_layer_cache(4, 2, 16, 12)
            cache = type(cache)(*(jax.device_put(x, lie) for x in (cache.keys, cache.values)), cache.length)
            gathers, got = look(update, cache, *(jax.device_put(x, lie) for x in new), start)
        assert gathers == 0, where
        close((got.keys, got.values, got.length), (want.keys, want.values, want.length))
        assert got.keys.sharding.is_equivalent_to(lie, 4), where


def test_training_step_gathers_nothing():
    """The gradient of a language model on four devices: one sum of the gradients, no gather; logits lie as the tokens do."""
    config = ax.TransformerConfig(vocab_size=64, d_model=32, num_heads=4, num_layers=2, d_ff=64, max_len=64,
                                  attention_type="memory_efficient", attention_block_size=32, dropout_rate=0.1)
    model = ax.TransformerLM(nnx.Rngs(0), config)
    model.eval()
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    ids = jnp.asarray(rng.integers(0, 64, (16, 64)))
    def logits(params, ids): return nnx.merge(graph, params, rest)(ids)
    def loss(params, ids):
        return -jnp.take_along_axis(jax.nn.log_softmax(logits(params, ids)[:, :-1]), ids[:, 1:, None], -1).mean()
    want, mesh = jax.jit(jax.grad(loss))(params, ids), jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    there = jax.device_put(params, NamedSharding(mesh, P())), jax.device_put(ids, NamedSharding(mesh, P("data")))
    gathers, got = look(jax.jit(jax.grad(loss)), *there)
    assert gathers == 0
    close(got, want, 1e-5)
    gathers, out = look(jax.jit(logits), *there)
    assert gathers == 0 and out.sharding.is_equivalent_to(NamedSharding(mesh, P("data", None, None)), 3)


def laid_out(model, mesh):
    """The model, its weights on every device of a mesh."""
    nnx.update(model, jax.device_put(nnx.state(model), NamedSharding(mesh, P())))
    return model


LM = dict(vocab_size=64, d_model=32, num_heads=4, num_layers=2, d_ff=64, max_len=64)
VIT = ax.VisionTransformerConfig(image_size=16, patch_size=4, d_model=32, num_heads=4, num_layers=2, d_ff=64, num_classes=5,
                                 num_register_tokens=2)
MODELS = {"sinusoidal": ax.TransformerConfig(**LM),
          "rope, blockwise": ax.TransformerConfig(**LM, pos_emb_type="rope", attention_type="memory_efficient"),
          "scanned": ax.TransformerConfig(**LM, scan_layers=True), "pictures": VIT}


@pytest.mark.parametrize("name", MODELS)
def test_models_on_explicit_axes(name):
    """Where shardings are part of types, a model computes and learns with its batch cut: values and gradients of one device."""
    config, mesh = MODELS[name], jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))
    model = ax.VisionTransformer(nnx.Rngs(0), config) if config is VIT else ax.TransformerLM(nnx.Rngs(0), config)
    model.eval()
    batch = draw(8, 16, 16, 3) if config is VIT else rng.integers(0, 64, (8, 24))
    def loss(model, batch):
        out = model(batch)
        return jax.nn.logsumexp(out, -1).mean(), out
    step = nnx.jit(nnx.value_and_grad(loss, has_aux=True))
    (_, want), grads = step(model, batch)
    (_, got), found = step(laid_out(model, mesh), jax.device_put(batch, NamedSharding(mesh, P("data"))))
    assert jax.typeof(got).sharding.spec[0] == "data"
    close((got, found), (want, grads))
