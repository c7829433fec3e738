"""Make nbs/fixtures/sampling.npz, the oracle of pages 50a and 51, with Hugging Face transformers.

    pip install torch transformers
    python tools/make_sampling_fixtures.py

Cases of one processor each, and of several at once, with drawn settings. The list of processors and its order are what
`generate` of transformers makes of the settings; logits go through it in float64. It holds:

- logits (cases, b, v), tokens (cases, b, n), new (cases,): how many of the tokens are chosen ones, the rest is the prompt;
- settings: JSON, one object per case, in the words of `attnax.models.sampling.Sampling`;
- want (cases, b, v): what is left of the logits, `-inf` where cut;
- written: JSON, one object per run of greedy generation by the small Llama among the fixtures: `prompts` of different
  length, `settings`, and the new `tokens` of each row alone, up to its end.

A case is drawn again until the same tokens are cut from logits that are off by 1e-4, so that float32 decides alike; a run,
until each token leads by 1e-3. The committed file comes from torch 2.13 and transformers 5.24.
"""
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here comes from a network

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

fixtures = Path(__file__).resolve().parent.parent / "nbs" / "fixtures"
rng = np.random.default_rng(16)
B, V, N = 3, 37, 14
model = AutoModelForCausalLM.from_pretrained(fixtures / "pretrained" / "llama").eval()


def ids(most=6, below=V) -> list[int]: return sorted(rng.choice(below, size=rng.integers(1, most), replace=False).tolist())


def number(low, high) -> float: return float(np.float32(round(rng.uniform(low, high), 3)))


DRAW = {  # each setting alone, in the words of ours
    "temperature": lambda: {"temperature": number(0.2, 2.5)},
    "top_k": lambda: {"top_k": int(rng.integers(1, 30))},
    "top_p": lambda: {"top_p": number(0.1, 0.98)},
    "min_p": lambda: {"min_p": number(0.01, 0.5)},
    "typical_p": lambda: {"typical_p": number(0.1, 0.95)},
    "repetition_penalty": lambda: {"repetition_penalty": number(0.6, 2.2)},
    "logit_bias": lambda: {"logit_bias": {str(t): int(rng.integers(-40, 40)) / 8 for t in ids()}},
    "suppress_tokens": lambda: {"suppress_tokens": ids()},
    "begin_suppress_tokens": lambda: {"begin_suppress_tokens": ids()},
    "min_new_tokens": lambda: {"min_new_tokens": int(rng.integers(1, 8)), "stop_token": ids(4)},
}
CUTS = ("temperature", "top_k", "top_p", "min_p", "typical_p")


def theirs(how: dict) -> GenerationConfig:
    """The same settings in the words of transformers."""
    said = dict(how)
    samples = any(name in said for name in CUTS)
    if bias := said.pop("logit_bias", None): said["sequence_bias"] = [[[int(t)], float(x)] for t, x in bias.items()]
    if stops := said.pop("stop_token", None): said["eos_token_id"] = stops
    said.setdefault("top_k", 0)  # nothing said is 50 to transformers
    return GenerationConfig(do_sample=samples, pad_token_id=0, **said)


def processors(config: GenerationConfig, prompt_len: int):
    model._prepare_special_tokens(config, True, "cpu")
    return model._get_logits_processor(config, input_ids_seq_length=prompt_len, device="cpu")


def case(names):
    while True:
        how = {k: v for name in names for k, v in DRAW[name]().items()}
        if any(name in how for name in CUTS): how.setdefault("temperature", 1.0)
        new = int(rng.choice([0, 1, 3, 5]))
        logits = (rng.standard_normal((B, V)) * rng.choice([0.7, 2, 5])).astype(np.float32)
        tokens = rng.integers(0, V, (B, N))
        chain, text = processors(theirs(how), N - new), torch.tensor(tokens)
        near = [0 * logits, *(1e-4 * rng.standard_normal((8, *logits.shape)))]
        want, *near = (chain(text, torch.tensor(logits + x, dtype=torch.float64)).numpy() for x in near)
        if all(((x == -np.inf) == (want == -np.inf)).all() for x in near) and (want > -np.inf).any(1).all():
            return logits, tokens, new, how, want


def run_written(how: dict, lengths=(9, 4, 6), most=14) -> dict:
    """Greedy generation of prompts, each alone, once every token leads clearly. (In a padded batch transformers penalises the
    id of the padding too.)"""
    config = theirs(how)
    config.max_new_tokens, config.return_dict_in_generate, config.output_scores = most, True, True
    while True:
        prompts = [rng.integers(3, model.config.vocab_size, n).tolist() for n in lengths]
        tokens, leads = [], []
        for prompt in prompts:
            with torch.no_grad(): out = model.generate(torch.tensor([prompt]), generation_config=config)
            top = torch.stack(out.scores)[:, 0].double().topk(2).values
            tokens.append(out.sequences[0, len(prompt):].tolist())
            leads.append(float((top[:, 0] - top[:, 1]).min()))
        if min(leads) > 1e-3 and min(len(set(row)) for row in tokens) > 3:
            return dict(prompts=prompts, settings=how, tokens=tokens)


alone = [[name] for name in DRAW for _ in range(4)]
together = [sorted(rng.choice(list(DRAW), size=rng.integers(3, len(DRAW) + 1), replace=False)) for _ in range(24)]
cases = [case(names) for names in alone + together]
written = [run_written(how) for how in (
    dict(repetition_penalty=1.7, stop_token=[2]),
    dict(suppress_tokens=[5, 9, 11], begin_suppress_tokens=[7, 20, 33], stop_token=[2]),
    dict(repetition_penalty=1.3, logit_bias={"8": 2.5, "12": 2.25}, stop_token=[8, 12, 20], min_new_tokens=4))]

logits, tokens, new, settings, want = zip(*cases)
np.savez_compressed(
    fixtures / "sampling.npz", logits=np.stack(logits), tokens=np.stack(tokens).astype(np.int32), new=np.array(new, np.int32),
    settings=json.dumps(settings), want=np.stack(want), written=json.dumps(written))
print(len(cases), "cases,", [w["tokens"] for w in written])
