"""What a changed config.json means here, held against what Hugging Face transformers makes of it: the same numbers, or a
refusal that names the field.

nbs/fixtures/configs holds the changes and what came of them; tools/make_config_fixtures.py records them, and draws the
weights for both sides. Neither torch nor transformers is needed here.
"""
import importlib.util
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from notebooks import root
from safetensors.numpy import save_file

from attnax.pretrained import load_pretrained
from attnax.pretrained.bert import BERT
from attnax.pretrained.dino import DINOV2, DINOV2_WITH_REGISTERS, DINOV3
from attnax.pretrained.clip import CLIP, SIGLIP
from attnax.pretrained.deepseek import DEEPSEEK_V3
from attnax.pretrained.family import settled
from attnax.pretrained.gemma import GEMMA2
from attnax.pretrained.gemma3 import GEMMA3
from attnax.pretrained.gpt2 import GPT2
from attnax.pretrained.gpt_oss import GPT_OSS
from attnax.pretrained.granite import GRANITE
from attnax.pretrained.llama import LLAMA
from attnax.pretrained.mapping import expected_shapes, parameter_shapes, read_parameters
from attnax.pretrained.ministral import MINISTRAL3
from attnax.pretrained.mistral import MISTRAL, MIXTRAL
from attnax.pretrained.modernbert import MODERNBERT
from attnax.pretrained.mpnet import DISTILBERT, MPNET
from attnax.pretrained.olmo import OLMO2, OLMO3
from attnax.pretrained.phi import PHI3
from attnax.pretrained.qwen import QWEN2, QWEN3
from attnax.pretrained.qwen_moe import QWEN2_MOE, QWEN3_MOE
from attnax.pretrained.roberta import ROBERTA, XLM_ROBERTA
from attnax.pretrained.smollm3 import SMOLLM3
from attnax.pretrained.vit import VIT
from attnax.pretrained.whisper import WHISPER
from attnax.pretrained.t5 import T5

spec = importlib.util.spec_from_file_location("make_config_fixtures", root / "tools" / "make_config_fixtures.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

FAMILIES = {f.model_type: f for f in (BERT, GPT2, LLAMA, MISTRAL, MINISTRAL3, MIXTRAL, QWEN2, QWEN3, SMOLLM3, GRANITE, PHI3,
                                      OLMO2, OLMO3, QWEN2_MOE, QWEN3_MOE, GEMMA2, GEMMA3, GPT_OSS, DEEPSEEK_V3, VIT, CLIP, SIGLIP,
                                      DINOV2, DINOV2_WITH_REGISTERS, DINOV3, WHISPER, T5)}
ENCODERS = {f.model_type: f for f in (ROBERTA, XLM_ROBERTA, MPNET, DISTILBERT, MODERNBERT)}   # with a head that fills gaps
FAMILIES |= ENCODERS
CLOSE = 1e-4
WIDTHS = ("num_attention_heads", "head_dim", "hidden_size", "intermediate_size")



def recorded(name: str) -> dict:
    """The changes of a family's config, and what came of them."""
    return json.loads((root / "nbs" / "fixtures" / "configs" / f"{name}.json").read_text())


# ---- Our side

def run(family, config) -> np.ndarray:
    """The print of a model with drawn weights. Nothing is compiled as a whole: the operations are shared by all configs."""
    masked = family.model_type in ENCODERS
    names = frozenset({"lm_head.dense.weight", "vocab_transform.weight"} if masked else {"pooler.dense.weight"})
    model = nnx.eval_shape(lambda: family.build(config, names))
    rules, shapes = family.all_rules(model), parameter_shapes(model)
    tensors = {name: tool.draw(name, shape) for rule in rules for name, shape in expected_shapes(rule, shapes).items()}
    state = nnx.state(model, nnx.Param)
    flat = read_parameters(rules, tensors)
    nnx.update(model, nnx.from_flat_state([(path, v.replace(flat[".".join(map(str, path))]))
                                           for path, v in nnx.to_flat_state(state)]))
    model.eval()
    name = family.model_type
    if name in tool.PICTURES: given = tool.inputs(name, config.image_size, config.num_channels)
    elif name in tool.PAIRS: given = tool.inputs(name, config.vision.image_size, config.vision.num_channels)
    elif name == "whisper": given = tool.inputs(name, mels=config.num_mels, length=2 * config.encoder.max_len)
    else: given = tool.inputs(name)
    given = {n: jnp.asarray(x) for n, x in given.items()}
    def outputs(pixel_values=None, input_features=None, input_ids=None, token_type_ids=None, decoder_input_ids=None):
        if name in tool.PICTURES: return (model(pixel_values.transpose(0, 2, 3, 1)),)
        if name in tool.PAIRS:
            x, y = model.encode_image(pixel_values.transpose(0, 2, 3, 1)), model.encode_text(input_ids)
            return model.logits(x, y), x, y
        if name == "whisper": return (model(input_features, decoder_input_ids),)
        if name == "t5": return (model(input_ids, decoder_input_ids),)
        if masked: return (model.logits(model(input_ids)),)
        if name != "bert": return (model(input_ids),)
        hidden = model(input_ids, token_type_ids=token_type_ids)
        return hidden, model.pool(hidden)
    return tool.fingerprint(*outputs(**given))


class Ours:
    """What attnax makes of configs: a print, or the words with which it refuses. Equal configs are run once, and written once."""
    def __init__(self, family): self.family, self.known, self.read_back = family, {}, {}

    def read(self, config: dict): return self.family.read(config)

    def __call__(self, config: dict, large: bool = False) -> np.ndarray | str | None:
        try: ours = self.read(config)
        except (ValueError, NotImplementedError) as e: return str(e)
        key = repr(settled(ours))
        if key not in self.read_back: self.read_back[key] = settled(self.read(self.family.write_config(ours))) == settled(ours)
        if large: return None
        if key not in self.known:
            try: self.known[key] = run(self.family, ours)
            except ValueError as e: self.known[key] = str(e)   # what a builder refuses
        return self.known[key]


# ---- What may differ, and why

def lenient(family: str, base: dict, change: dict) -> str | None:
    """Why attnax reads something that transformers refuses."""
    now, ours = tool.changed(base, change), tool.BASES[family][1]
    for name, value in change.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
        if number and ("eps" in name or "softcapping" in name or name == "query_pre_attn_scalar"
                       or name == "routed_scaling_factor"):
            return "a whole number where a float is meant, or the other way round"
        if number and name in ("layerscale_value", "rope_theta") and family in tool.DINO: return "a whole number, as above"
        if name in ("out_features", "out_indices", "stage_names"): return "which maps a backbone hands over"
        if name == "return_dict": return "how results are packed, which breaks there"
        if name not in base and not value: return "off, and no field of this family"
        if name in ("pooler_act", "pooler_output_size"): return "about a pooler, which a classifier does not have"
        if name == "intermediate_size" and value == 1: return "a limit of torch's grouped products"
    if family in ("whisper", "smollm3", "phi3") and "pad_token_id" not in now:
        return "the default lies outside a vocabulary as small as this one"
    if "head_dim" in ours or "head_dim" in base and now.get("head_dim"):
        if now["hidden_size"] % now["num_attention_heads"]: return "with a head width of its own, heads need not divide the width"
    rope = now.get("rope_scaling") or now.get("rope_parameters")
    kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, dict) else None
    if kind == "su": return "an older name of longrope, for which the reference leaves the trained length out"
    if kind in ("yarn", "longrope", "dynamic") and "head_dim" in base and now.get("head_dim") is None:
        return "the reference multiplies the head width there, which null is not"
    if now.get("sliding_window", 0) is None and "sliding_attention" not in now.get("layer_types", ["sliding_attention"]):
        return "no layer slides"
    return None


def names(change: dict) -> set[str]:
    """What a refusal may name: a field that was changed, or a part of it."""
    parts = [p for v in change.values() if isinstance(v, dict) for p in v]
    return {*change, *parts, *(n.split(".")[-1] for n in change)}


def judge(family: str, base: dict, change: dict, ours, theirs: int, prints) -> tuple[str, str]:
    """The kind of a case, and what is wrong with it, if anything."""
    if isinstance(ours, str):
        named = any(f"`{n}`" in ours for n in names(change))
        everyday = tool.EVERYDAY | tool.EVERYDAY_OF[family]
        harmless = theirs == 0 and all(n in everyday and v in everyday[n] for n, v in change.items())
        if harmless: return "refused by name", f"refused, and says nothing about the computation: {ours}"
        kind = "both refuse" if theirs == tool.REFUSED else "refused by name"
        return kind, "" if named else f"refused without naming it: {ours}"
    if theirs == tool.LARGE: return "too large", ""
    if theirs == tool.REFUSED: return "lenient", "" if lenient(family, base, change) else "read, and refused by the reference"
    if ours is None: return "too large", ""
    expected = np.array(prints[theirs])
    error = abs(ours - expected).max() / abs(expected).max()
    return "equal", "" if error <= CLOSE else f"off by {error:.1e}"


@pytest.mark.parametrize("name", FAMILIES)
def test_changed_configs(name):
    said = recorded(name)
    ours, counts, wrong = Ours(FAMILIES[name]), {}, []
    changes = [({n: v}, out) for n, cases in said["one"].items() for v, out in cases] + [(c, out) for c, out in said["two"]]
    for change, theirs in [({}, 0), *changes]:
        config = tool.changed(said["base"], change)
        # widths that no machine for tests should be asked for are read, and not run; a limit of that size costs nothing
        large = theirs == tool.LARGE or any(type(change.get(n)) is int and change[n] > 10**5 for n in WIDTHS)
        got = ours(config, large)
        kind, fault = judge(name, tool.flat(said["base"]), change, got, theirs, said["prints"])
        counts[kind] = counts.get(kind, 0) + 1
        if fault: wrong.append(f"{json.dumps(change)}: {fault}")
    print(f"\n{name}: {len(changes)} changes, {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))}; "
          f"{len(ours.known)} models run")
    least = (100, 40) if name in tool.FEW else (380, 150)
    assert len(changes) > least[0] and counts["equal"] >= least[1], counts
    assert [c for c, same in ours.read_back.items() if not same] == [], "written, these configs are read as others"
    assert not wrong, f"{len(wrong)} of {len(changes)}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - {"bert", *tool.PICTURES, *tool.PAIRS, *ENCODERS}))   # what writes text
def test_head_beside_its_embedding(name, tmp_path):
    """A head that is stored beside the embedding it is tied to may be there or not, and must hold the same numbers."""
    family, (copy, home) = FAMILIES[name], FAMILIES[name].tied
    base = recorded(name)["base"]
    config = base | {"tie_word_embeddings": True, "architectures": [family.architecture]}
    ours = Ours(family).read(config)
    model = nnx.eval_shape(lambda: family.build(ours, frozenset()))
    shapes = parameter_shapes(model)
    names = {n: s for rule in family.all_rules(model) for n, s in expected_shapes(rule, shapes).items()}
    tensors = {n: np.asarray(tool.draw(n, s), np.float32) for n, s in names.items()}
    assert home in tensors and copy not in tensors
    states = []
    for more in ({}, {copy: tensors[home]}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        save_file(tensors | more, tmp_path / "model.safetensors")
        states.append(jax.tree.leaves(nnx.state(load_pretrained(tmp_path), nnx.Param)))
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))
    save_file(tensors | {copy: tensors[home] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"`{re.escape(copy)}`"): load_pretrained(tmp_path)


@pytest.mark.parametrize("name, fields, rate", [
    ("bert", ("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.1),
    ("gpt2", ("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.1),
    ("vit", ("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0), ("whisper", ("dropout",), 0.0),
    ("t5", ("dropout_rate",), 0.1)])
def test_dropout_of_a_config(name, fields, rate):
    """The family's own rate where nothing is said, else what is said, zero included; and it is written back."""
    family = FAMILIES[name]
    base = recorded(name)["base"]
    def read(config): return Ours(family).read(config)
    def said(config): return getattr(config, "decoder", config).dropout_rate
    without = {n: v for n, v in base.items() if n not in fields}
    assert said(read(without)) == rate
    for given in (0.0, 0.25):
        ours = read(without | dict.fromkeys(fields, given))
        written = family.write_config(ours)
        assert said(ours) == given and [written[n] for n in fields] == [given] * len(fields)
