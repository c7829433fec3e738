"""Eight devices train like one: every preset and mixes of two, layers in a list and in a stack, experts, quantised weights with
adapters, auto and explicit axes. Losses of twenty steps are those of one device; what the compiled step sends is what the preset
is for; each device holds what `explain_sharding` said. In processes of their own, so that there are eight devices in each.
`ATTNAX_SHARDING=all` runs every case, else a choice of them."""
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

CASES = {  # name: model, mesh, explicit axes, kinds of messages about activations that the preset needs
    "data": ("listed", "data", False, set()),
    "fsdp": ("listed", "fsdp", False, set()),
    "tensor": ("listed", "tensor", False, {"all-reduce"}),
    "sequence": ("listed", "sequence", False, {"collective-permute"}),
    "expert": ("experts", "expert", False, {"all-gather", "reduce-scatter"}),
    "data and fsdp": ("scanned", "data=4,fsdp=2", False, set()),
    "data and tensor": ("scanned", "data=4,tensor=2", False, {"all-reduce"}),
    "fsdp and tensor": ("scanned", "fsdp=4,tensor=2", False, {"all-reduce"}),
    "data and sequence": ("scanned", "data=4,sequence=2", False, {"collective-permute"}),
    "sequence and data": ("listed", "sequence=4,data=2", False, {"collective-permute"}),
    "data and expert": ("experts", "data=4,expert=2", False, {"all-gather", "reduce-scatter"}),
    "expert and tensor": ("scanned experts", "expert=4,tensor=2", False, {"all-gather", "reduce-scatter", "all-reduce"}),
    "experts in fsdp": ("scanned experts", "fsdp", False, set()),
    "biases, fsdp and tensor": ("biases", "fsdp=2,tensor=4", False, {"all-reduce"}),
    "adapters, fsdp and tensor": ("adapters", "fsdp=4,tensor=2", False, {"all-reduce"}),
    "quantised, fsdp": ("int8", "fsdp", False, set()),
    "quantised, data and tensor": ("scanned int8", "data=4,tensor=2", False, {"all-reduce"}),
    "explicit data": ("listed", "data", True, set()),
    "explicit fsdp and tensor": ("scanned", "fsdp=4,tensor=2", True, {"all-reduce"}),
    "explicit biases": ("biases", "tensor=4,data=2", True, {"all-reduce"}),
}
SHORT = (("fsdp and tensor", "explicit fsdp and tensor", "data and expert"),)
STEPS, ROWS, LENGTH = 20, 8, 48


def configs():
    from attnax import TransformerConfig
    base = TransformerConfig(vocab_size=80, d_model=64, num_heads=8, num_layers=2, d_ff=128, max_len=64, pos_emb_type="rope",
                             norm_type="rms", use_bias=False, ff_activation="swiglu", dropout_rate=0.0)
    biases = replace(base, pos_emb_type="learned", norm_type="layer", use_bias=True, ff_activation="gelu", num_kv_heads=4,
                     tie_embeddings=False, remat="dots")
    return {"listed": base, "biases": biases, "experts": replace(base, num_experts=8, experts_top_k=2), "adapters": base,
            "int8": base}


def make(name):
    """A model of ours by a name of `configs`, stacked where the name says so."""
    import attnax as ax
    from attnax.lora import add_lora
    from attnax.models.quantize import quantize
    from flax import nnx
    first, _, rest = name.partition(" ")
    config = configs()[(rest or "listed") if first == "scanned" else name]
    model = ax.TransformerLM(nnx.Rngs(0), replace(config, scan_layers=first == "scanned"))
    if name.endswith("int8"): model = quantize(model, "int8")
    if name.endswith(("int8", "adapters")): add_lora(model, 4, targets=["query_proj", "up_proj", "down_proj"], rngs=nnx.Rngs(1))
    return model


def train(name, mesh=None):
    """Losses of a run, the text of its step, bytes that were planned and that devices hold."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from attnax.training.losses import lm_loss
    from attnax.training.sharding import put_batch, shard
    from attnax.training.sharding_plan import explain_sharding
    from attnax.training.step import Recipe, make_optimizer, make_train_step
    from flax import nnx
    model = make(name)
    optimizer = make_optimizer(model, Recipe(steps=STEPS, learning_rate=1e-3, warmup_steps=4))
    batches = np.random.default_rng(0).integers(0, 80, (STEPS, ROWS, LENGTH + 1), dtype=np.int32)
    step, planned, batches = make_train_step(lambda m, w: lm_loss(m, w, chunk=24)), 0, list(batches)
    if mesh is not None:
        planned = explain_sharding((model, optimizer), mesh).bytes_per_device
        shard((model, optimizer), mesh)
        batches = [put_batch(x, mesh) for x in batches]
    compiled = step.lower(model, optimizer, batches[0]).compile()
    losses = [float(compiled(model, optimizer, x).loss) for x in batches]
    arrays = [x for x in jax.tree.leaves(nnx.state((model, optimizer)))
              if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    held = [sum(s.data.nbytes for x in arrays for s in x.addressable_shards if s.device == d) for d in jax.devices()]
    return np.array(losses), compiled, planned, held


def of_activations(message):
    """Whether a message is about states: floats along positions or tokens, sizes that no weight has."""
    sizes = {n // k for n in (LENGTH, ROWS * LENGTH) for k in (1, 2, 4, 8)}
    return message.dtype.startswith(("f", "bf")) and bool(sizes & set(message.shape))


def check(name, wanted):
    """One case, against the losses of one device."""
    import numpy as np
    from attnax.training.sharding import make_training_mesh
    from attnax.training.sharding_plan import messages_of
    model, words, explicit, needed = CASES[name]
    losses, compiled, planned, held = train(model, make_training_mesh(words, explicit=explicit))
    np.testing.assert_allclose(losses, wanted, rtol=1e-5, err_msg=name)
    found = messages_of(compiled.as_text())
    sent = {m.kind for m in found if of_activations(m)}
    assert sent <= needed, (name, [m for m in found if of_activations(m) and m.kind not in needed])
    if "fsdp" in words and "experts" not in model:
        gathered = [m for m in found if m.kind == "all-gather"]
        assert gathered and all("constraint" in m.place or "reshard" in m.place for m in gathered), name
    elif "expert" not in words and "fsdp" not in words:
        assert not [m for m in found if m.kind == "all-gather"], name
    assert max(abs(n - planned) for n in held) <= planned / 100, (name, planned, held)
    given = compiled.memory_analysis().argument_size_in_bytes
    assert abs(given - planned) <= planned / 10, (name, planned, given)
    print(f"{name:28} {abs(losses / wanted - 1).max():.1e} {planned:9,} {sorted(sent)}")


def main(names):
    import jax
    jax.config.update("jax_num_cpu_devices", 8)
    wanted = {}
    for name in names:
        model = CASES[name][0]
        if model not in wanted: wanted[model] = train(model)[0]
        check(name, wanted[model])


def chosen():
    if os.environ.get("ATTNAX_SHARDING") != "all": return SHORT
    names = list(CASES)
    return [names[i:i + 5] for i in range(0, len(names), 5)]


@pytest.mark.parametrize("names", chosen(), ids=lambda names: names[0])
def test_eight_devices_train_like_one(names):
    root = Path(__file__).resolve().parent.parent
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, __file__, *names], cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


if __name__ == "__main__": main(sys.argv[1:] or list(CASES))
