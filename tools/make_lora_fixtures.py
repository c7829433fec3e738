"""Make the fixtures of adapters under nbs/fixtures/lora with Hugging Face's PEFT, and let PEFT read what attnax writes.

    pip install torch transformers && pip install --no-deps peft
    python tools/make_lora_fixtures.py                # adapters of PEFT on the models of nbs/fixtures/pretrained
    python tools/make_lora_fixtures.py --ours         # adapters of attnax, written by `save_lora`, read by PEFT

Each folder is named after the model that it is for, with `dora_` in front where lengths of columns are trained too, and holds
what `PeftModel.save_pretrained` writes, and

- expected.npz: what PEFT's model answered, in float32: `input_ids`, `hidden` (after the final norm), `logits` and `generated`
  (16 greedy tokens after `input_ids[:, :8]`); of an encoder `input_ids`, `attention_mask`, `token_type_ids`,
  `last_hidden_state`.

With `--ours` the folders are `ours_NAME` and `ours_dora_NAME`: what `save_lora` wrote of an adapter whose numbers `ours` below
draws, and in expected.npz what PEFT's model answered once it had read them. The script fails where attnax answers something
else, or where PEFT misses a tensor or has one too many.
The committed files come from torch 2.13, transformers 5.24 and PEFT 0.21.
"""
import argparse
import os
import shutil
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here comes from a network
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM

root = Path(__file__).resolve().parent.parent
models, folder = root / "nbs" / "fixtures" / "pretrained", root / "nbs" / "fixtures" / "lora"
PROMPT, NEW = 8, 16
MARGIN = 1e-3  # a greedy token must win by this much, so that rounding cannot turn it

CASES = {  # what a config can ask for, each once
    "llama": dict(target_modules="all-linear", lora_alpha=8),
    "gpt2": dict(target_modules=["c_attn", "c_proj", "c_fc"], lora_alpha=6, fan_in_fan_out=True),
    "phi3": dict(target_modules=["qkv_proj", "o_proj", "gate_up_proj"], use_rslora=True, lora_alpha=3, lora_dropout=0.1),
    "qwen2": dict(target_modules=["q_proj", "v_proj", "down_proj"], rank_pattern={"down_proj": 2, "0.self_attn.q_proj": 6},
                  alpha_pattern={r"layers\.1\..*v_proj": 10.0}, layers_to_transform=[0, 1], layers_pattern="layers",
                  exclude_modules=["0.mlp.down_proj"]),
    "gemma3": dict(target_modules=r".*(embed_tokens|layers\.[02]\.self_attn\.(q|k)_proj)"),
    "mistral": dict(target_modules=["q_proj", "embed_tokens", "lm_head"]),
    "deepseek_v3": dict(target_modules=["kv_b_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj"]),
    "bert": dict(target_modules=["query", "attention.output.dense", "intermediate.dense"]),
    "dora_llama": dict(target_modules="all-linear", use_dora=True),
    "dora_gpt2": dict(target_modules=["c_attn", "c_fc"], use_dora=True, fan_in_fan_out=True),  # joined, with biases
    "dora_gemma3": dict(target_modules=["embed_tokens", "up_proj"], use_dora=True),            # a table with a factor
}
OURS = {  # our names, of which those that share a matrix of theirs have adapters of their own
    "llama": ["query_proj", "up_proj", "lm_head"], "gpt2": ["query_proj", "value_proj", "dense2"],
    "phi3": ["query_proj", "gate_proj"], "gemma3": ["token_embed", "output_proj"], "bert": ["query_proj", "dense1"],
    "dora_gpt2": ["query_proj", "value_proj", "dense2"], "dora_gemma3": ["token_embed", "up_proj"]}


def base(name: str):
    name = name.removeprefix("dora_")
    cls = AutoModel if name == "bert" else AutoModelForCausalLM
    return cls.from_pretrained(models / name, attn_implementation="eager").eval()


def inputs_of(name: str) -> dict[str, np.ndarray]:
    """The inputs that the model's own fixture has."""
    with np.load(models / name.removeprefix("dora_") / "expected.npz") as z:
        return {k: z[k] for k in ("input_ids", "attention_mask", "token_type_ids") if k in z}


@torch.no_grad()
def answers(name: str, model) -> tuple[dict[str, np.ndarray], float]:
    """What a model says, and by how much the closest greedy token won."""
    inputs = {k: torch.from_numpy(x.astype(np.int64)) for k, x in inputs_of(name).items()}
    if name == "bert": return {"last_hidden_state": model(**inputs).last_hidden_state.numpy()}, 1.0
    out = model(**inputs, output_hidden_states=True, use_cache=False)
    ids, margin = inputs["input_ids"][:, :PROMPT], 1.0
    for _ in range(NEW):
        best = model(input_ids=ids, use_cache=False).logits[:, -1].topk(2)
        margin = min(margin, float((best.values[:, 0] - best.values[:, 1]).min()))
        ids = torch.cat([ids, best.indices[:, :1]], 1)
    return {"hidden": out.hidden_states[-1].numpy(), "logits": out.logits.numpy(),
            "generated": ids[:, PROMPT:].numpy().astype(np.int32)}, margin


def keep(to: Path, name: str, said: dict[str, np.ndarray]) -> str:
    np.savez_compressed(to / "expected.npz", **inputs_of(name), **said)
    (to / "README.md").unlink(missing_ok=True)
    for f in to.iterdir(): f.chmod(0o644)
    return f"{to.name:18} {sum(f.stat().st_size for f in to.iterdir()) / 1024:.0f} KiB"


def theirs(name: str) -> str:
    """An adapter of PEFT, from the first seed with clear choices."""
    for seed in range(50):
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_peft_model(base(name), LoraConfig(**{"r": 4, "lora_alpha": 8} | CASES[name])).eval()
        for n, p in model.named_parameters():
            if "magnitude" in n: p.data *= 1 + 0.3 * torch.randn_like(p)
            elif "lora_" in n: p.data = torch.randn_like(p) * (0.3 if "embedding" in n or "_B" in n else p.shape[-1] ** -0.5)
        said, margin = answers(name, model)
        if margin < MARGIN: continue
        shutil.rmtree(folder / name, ignore_errors=True)
        model.save_pretrained(folder / name, save_embedding_layers="auto")
        text = (folder / name / "adapter_config.json").read_text()
        (folder / name / "adapter_config.json").write_text(text.replace(f"{models}/", ""))
        return keep(folder / name, name, said)
    raise RuntimeError(f"{name}: no seed with clear choices")


def ours(name: str, to: Path):
    """An adapter of attnax, saved; the model that has it. The page about files does the same."""
    sys.path.insert(0, str(root))
    from attnax.lora import add_lora
    from attnax.pretrained import load_pretrained
    from attnax.pretrained.lora import save_lora
    from flax import nnx
    model, rng = load_pretrained(models / name.removeprefix("dora_")), np.random.default_rng(0)
    add_lora(model, rank=3, alpha=6, targets=OURS[name], use_dora=name.startswith("dora_"), rngs=nnx.Rngs(0))
    for path, x in nnx.to_flat_state(nnx.state(model, nnx.LoRAParam)):
        drawn = rng.standard_normal(x.shape, np.float32) / 4
        x[...] = x[...] * (1 + drawn) if path[-1] == "magnitude" else drawn
    save_lora(model, to, overwrite=True)
    return model


def read_by_peft(name: str) -> str:
    """What attnax wrote, read by PEFT: the same answers, nothing missing, nothing left."""
    to = folder / f"ours_{name}"
    model = ours(name, to)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        read = PeftModel.from_pretrained(base(name), to).eval()
    wrong = [str(w.message) for w in said if "adapter" in str(w.message) and "key" in str(w.message)]
    if wrong: raise RuntimeError(f"{name}: PEFT says {wrong}")
    answer, _ = answers(name, read)
    inputs = inputs_of(name)
    if name == "bert":
        mask = inputs["attention_mask"].astype(bool)
        mine = np.asarray(model(inputs["input_ids"], mask, token_type_ids=inputs["token_type_ids"]))[mask]
        want = answer["last_hidden_state"][mask]
    else: mine, want = np.asarray(model(inputs["input_ids"])), answer["logits"]
    error = float(abs(mine - want).max() / abs(want).max())
    if error > 1e-5: raise RuntimeError(f"{name}: attnax and PEFT differ by {error}")
    said = {n: x for n, x in answer.items() if n in ("logits", "last_hidden_state")}
    return f"{keep(to, name, said)}, largest difference {error:.1e}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models; all when none is named")
    parser.add_argument("--ours", action="store_true", help="let PEFT read what attnax writes")
    args = parser.parse_args()
    folder.mkdir(exist_ok=True)
    for name in args.names or (OURS if args.ours else CASES): print(read_by_peft(name) if args.ours else theirs(name), flush=True)
