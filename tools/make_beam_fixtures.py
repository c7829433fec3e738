"""Write nbs/fixtures/beams.json: what Hugging Face's `generate(num_beams=...)` finds with tiny random models.

    pip install torch transformers safetensors
    python tools/make_beam_fixtures.py

The models are built here as nbs/51b_models.beam.ipynb builds them (a config, and values of NumPy's generator in the order
of the parameters' names), written as a Llama and as a T5, and read by transformers. Each case is run a second time with
noise of 1e-4 on the log-probabilities: a case whose texts depend on such differences is no fixture, and raises.
"""
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attnax import EncoderDecoder, TransformerConfig, TransformerLM
from attnax.layers.positions import RelativeBias
from attnax.pretrained import save_pretrained

root = Path(__file__).resolve().parent.parent
SMALL = dict(vocab_size=40, d_model=32, num_heads=4, num_layers=2, d_ff=48, max_len=64, dropout_rate=0.0, norm_type="rms",
             use_bias=False, pad_token_id=1)
LLAMA = SMALL | dict(num_kv_heads=2, pos_emb_type="rope", ff_activation="swiglu", tie_embeddings=False)
T5 = SMALL | dict(pos_emb_type="none", ff_activation="relu", attention_scale=1.0)
PAD, NEW = 1, 10
STOPS = [5, 9, 16, 23, 30]
BANNED = [1, 39]

# Width and what else differs; the first has no stop token. Padding, 1, is banned: a repetition penalty counts it there
DECODER = [dict(num_beams=4, stops=[])] + [
    dict(num_beams=4, stops=stops, length_penalty=penalty, early_stopping=early)
    for stops, penalty, early in (
        ([5, 9], 1.0, False), (STOPS, 1.0, True), (STOPS, 1.0, False), (STOPS, 1.0, "never"), (STOPS, 2.0, "never"),
        (STOPS, -1.0, "never"), (STOPS, -0.7, False), (STOPS, 0.0, True), ([5, 9, 17], 0.0, False), (STOPS, 0.0, "never"))
] + [dict(num_beams=2, stops=STOPS, suppress=[1, 8, 30], length_penalty=1.5, repetition_penalty=1.3, min_new_tokens=4)]
ENCODER = [dict(num_beams=4, stops=stops, length_penalty=penalty, early_stopping=early)
           for stops, penalty, early in (
               ([8, 9], 1.0, False), ([20, 8], 2.0, "never"), ([14, 20], 0.6, True), ([28, 8], -1.0, False))]


def fill(model, seed: int, scale: float = 0.35):
    """Values of NumPy's generator in the place of a model's parameters, in the order of their names."""
    draw = np.random.default_rng(seed)
    found = {".".join(map(str, path)): value for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    for name in sorted(found):
        shape = found[name].shape
        value = 1 + 0.1 * draw.normal(size=shape) if len(shape) == 1 else scale * draw.normal(size=shape)
        found[name][...] = value.astype("float32")
    return model


class Noise(transformers.LogitsProcessor):
    def __init__(self): self.draw = torch.Generator().manual_seed(0)
    def __call__(self, ids, scores): return scores + 1e-4 * torch.randn(scores.shape, generator=self.draw)


def search(model, inputs: dict, start: int, *, num_beams, stops, suppress=BANNED, **how) -> dict:
    """Tokens and scores of one case. Raises: `ValueError` for a case that noise turns."""
    r = num_beams
    words = dict(max_new_tokens=NEW, num_beams=num_beams, num_return_sequences=r, do_sample=False, pad_token_id=PAD,
                 eos_token_id=stops or None, suppress_tokens=suppress, return_dict_in_generate=True, output_scores=True, **how)
    found = []
    for noise in ([], [Noise()]):
        out = model.generate(**inputs, **words, logits_processor=transformers.LogitsProcessorList(noise))
        tokens = out.sequences[:, start:]
        tokens = torch.nn.functional.pad(tokens, (0, NEW - tokens.shape[1]), value=PAD)
        found.append((tokens.reshape(-1, r, NEW).tolist(), out.sequences_scores.reshape(-1, r).tolist()))
    if found[0][0] != found[1][0]: raise ValueError(f"noise turns {num_beams=} {stops=} {how}: choose another seed")
    return dict(num_beams=num_beams, stops=stops, suppress=suppress, how=how,
                tokens=found[0][0], scores=[[round(x, 6) for x in row] for row in found[0][1]])


def through_files(model, family: str, kind):
    """The same model in transformers."""
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, Path(folder) / "model", family=family)
        theirs = kind.from_pretrained(Path(folder) / "model", dtype=torch.float32).eval()
    theirs.generation_config = transformers.GenerationConfig(decoder_start_token_id=0)
    return theirs


def main() -> None:
    draw, width = np.random.default_rng(7), 7
    lengths = [7, 4, 6]
    ids = draw.integers(2, 40, (3, width))
    given = {"config": LLAMA, "lengths": lengths, "prompt": ids.tolist()}
    ours = fill(TransformerLM(nnx.Rngs(0), TransformerConfig(**LLAMA)), 1)
    theirs = through_files(ours, "llama", transformers.AutoModelForCausalLM)
    left = np.stack([np.r_[np.full(width - n, PAD), row[:n]] for row, n in zip(ids, lengths)])
    mask = np.arange(width)[None] >= width - np.array(lengths)[:, None]
    inputs = dict(input_ids=torch.tensor(left), attention_mask=torch.tensor(mask.astype(int)))
    with torch.inference_mode(): given["cases"] = [search(theirs, inputs, width, **case) for case in DECODER]

    bias = dict(num_buckets=8, max_distance=16)
    def stack(both, **how): return TransformerConfig(**T5, **how, relative_bias=RelativeBias(**bias, bidirectional=both))
    ours = EncoderDecoder(nnx.Rngs(0), stack(False, logit_scale=32 ** -0.5), encoder_config=stack(True), share_embeddings=True)
    ours = fill(ours, 2)
    read = {"config": T5, "bias": bias, "lengths": lengths, "source": ids.tolist()}
    theirs = through_files(ours, "t5", transformers.AutoModelForSeq2SeqLM)
    seen = np.arange(width)[None] < np.array(lengths)[:, None]
    inputs = dict(input_ids=torch.tensor(ids), attention_mask=torch.tensor(seen.astype(int)))
    with torch.inference_mode(): read["cases"] = [search(theirs, inputs, 1, **case) for case in ENCODER]

    at = root / "nbs/fixtures/beams.json"
    at.write_text(json.dumps({"by": f"transformers {transformers.__version__}, torch {torch.__version__}", "decoder": given,
                              "encoder_decoder": read}, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{at.relative_to(root)}: {at.stat().st_size / 1e3:.0f} kB, {len(given['cases'])} + {len(read['cases'])} cases")


if __name__ == "__main__": main()
