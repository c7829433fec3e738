"""Make nbs/fixtures/positions.json, the oracle of pages 30 and 35, with Hugging Face transformers.

    pip install torch transformers
    python tools/make_position_fixtures.py

It holds, as plain numbers in float32:

- scaling: for each kind of scaled rotary frequencies two settings or more, with the frequencies and the factor on cosines
  and sines that `ROPE_INIT_FUNCTIONS` gives, at a length where the kind looks at one;
- phi3: cosines and sines of a longrope model on both sides of its trained length;
- axial: cosines and sines of DINOv3's patches, and what they make of queries with a prefix;
- multi: queries turned by Qwen2-VL (blocks) and Qwen3.5 (interleaved) at positions of their own on three axes;
- pairs: queries turned by Cohere, whose pairs of channels are neighbours.

Queries are `np.sin(np.arange(n))` in the shape that is written beside them, so that only results need a place.
The committed file comes from torch 2.13 and transformers 5.24; elsewhere the last bits may differ.
"""
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here comes from a network

import numpy as np
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.cohere import modeling_cohere as cohere
from transformers.models.dinov3_vit import modeling_dinov3_vit as dino
from transformers.models.phi3 import modeling_phi3 as phi3
from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen2
from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen3

dest = Path(__file__).resolve().parent.parent / "nbs" / "fixtures" / "positions.json"
yarn = dict(factor=3.7, original_max_position_embeddings=613)
short, long = [1.0, 1.03, 1.2, 1.45, 1.9, 2.2], [1.1, 1.7, 3.1, 5.2, 8.9, 11.3]

lists = dict(short_factor=short, long_factor=long, original_max_position_embeddings=37)

# kind, width of a head, base, fields of the scaling, largest position of the model, lengths
L0 = "original_max_position_embeddings"
settings = [
    ("linear", 10, 731.0, dict(factor=2.7), 512, [None]),
    ("linear", 16, 10000.0, dict(factor=8.0), 512, [None]),
    ("llama3", 24, 5117.0, dict(factor=5.5, low_freq_factor=1.3, high_freq_factor=3.7) | {L0: 417}, 4096, [None]),
    ("llama3", 16, 500000.0, dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0) | {L0: 8192}, 131072, [None]),
    ("yarn", 24, 15013.0, yarn, 4096, [None]),
    ("yarn", 64, 150000.0, dict(factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False) | {L0: 4096}, 131072, [None]),
    ("yarn", 24, 731.0, yarn | dict(beta_fast=19.0, beta_slow=2.5, mscale=0.707, mscale_all_dim=1.3), 4096, [None]),
    ("yarn", 24, 731.0, yarn | dict(attention_factor=1.37, beta_fast=9.0, beta_slow=8.5), 4096, [None]),
    ("yarn", 12, 10.0, yarn | {L0: 5}, 4096, [None]),
    ("longrope", 12, 911.0, dict(factor=6.3) | lists, 4096, [None, 37, 38]),
    ("longrope", 12, 10000.0, dict(factor=32.0, attention_factor=1.19) | lists, 4096, [37, 99]),
    ("dynamic", 10, 731.0, dict(factor=2.7), 41, [None, 41, 42, 137]),
    ("dynamic", 64, 10000.0, dict(factor=4.0), 2048, [2048, 5000]),
    ("proportional", 32, 731.0, dict(partial_rotary_factor=0.25), 512, [None]),
    ("proportional", 22, 1e6, dict(partial_rotary_factor=0.6, factor=1.7), 512, [None]),
]


def plain(x) -> list: return [float(f"{v:.9g}") for v in np.asarray(x, np.float32).ravel()]


def queries(*shape) -> torch.Tensor: return torch.tensor(np.sin(np.arange(np.prod(shape))).reshape(shape), dtype=torch.float32)


def scaled(kind, width, base, fields, most, lengths) -> list[dict]:
    config = transformers.LlamaConfig(hidden_size=width, num_attention_heads=1, head_dim=width, max_position_embeddings=most,
                                      rope_parameters=dict(rope_type=kind, rope_theta=base, **fields))
    out = []
    for length in lengths:
        inv_freq, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=length)
        out.append(dict(kind=kind, width=width, base=base, fields=fields, most=most, length=length,
                        inv_freq=plain(inv_freq), factor=factor))
    return out


def of_phi3() -> dict:
    rope = dict(rope_type="longrope", rope_theta=911.0, short_factor=short, long_factor=long, factor=6.3,
                original_max_position_embeddings=37)
    config = transformers.Phi3Config(hidden_size=12, num_attention_heads=1, num_key_value_heads=1, max_position_embeddings=233,
                                     original_max_position_embeddings=37, rope_parameters=rope, pad_token_id=0)
    part, out = phi3.Phi3RotaryEmbedding(config), []
    for ids in ([[3, 36]], [[3, 37]]):
        cos, sin = part(torch.zeros(1), torch.tensor(ids))
        out.append(dict(ids=ids, cos=plain(cos[..., :6]), sin=plain(sin[..., :6])))
    return dict(base=911.0, factor=6.3, short=short, long=long, original=37, calls=out)


def of_dino(rows, cols, prefix, width) -> dict:
    config = transformers.DINOv3ViTConfig(hidden_size=width, num_attention_heads=1, image_size=(rows * 4, cols * 4), patch_size=4)
    cos, sin = dino.DINOv3ViTRopePositionEmbedding(config).eval()(torch.zeros(1, 3, rows * 4, cols * 4))
    q = queries(1, 2, prefix + rows * cols, width)
    turned, _ = dino.apply_rotary_pos_emb(q, q, cos, sin)
    return dict(grid=[rows, cols], prefix=prefix, base=config.rope_theta, shape=list(q.shape), turned=plain(turned))


def of_qwen(name, sections, partial) -> dict:
    rope = dict(rope_type="default", rope_theta=731.0, mrope_section=sections, partial_rotary_factor=partial)
    width = int(2 * sum(sections) / partial)
    ids = torch.tensor([[[0, 1, 1, 9]], [[0, 1, 4, 7]], [[0, 5, 1, 8]]]).repeat(1, 2, 1) + torch.tensor([0, 3])[:, None]
    q, page = queries(2, 1, 4, width), qwen2 if name == "blocks" else qwen3
    config = (transformers.Qwen2VLTextConfig if name == "blocks" else transformers.Qwen3_5TextConfig)(
        hidden_size=width, head_dim=width, num_attention_heads=1, num_key_value_heads=1, rope_parameters=rope)
    part = (qwen2.Qwen2VLRotaryEmbedding if name == "blocks" else qwen3.Qwen3_5TextRotaryEmbedding)(config)
    turned, _ = page.apply_rotary_pos_emb(q, q, *part(q, ids))
    return dict(layout=name, sections=sections, base=731.0, dim=2 * sum(sections), ids=ids.tolist(), shape=list(q.shape),
                turned=plain(turned))


def of_cohere() -> dict:
    config = transformers.CohereConfig(hidden_size=6, num_attention_heads=1, num_key_value_heads=1,
                                       rope_parameters=dict(rope_type="default", rope_theta=731.0))
    ids, q = torch.tensor([[0, 5, 31], [7, 2, 100]]), queries(2, 2, 3, 6)
    turned, _ = cohere.apply_rotary_pos_emb(q, q, *cohere.CohereRotaryEmbedding(config)(q, ids))
    return dict(base=731.0, ids=ids.tolist(), shape=list(q.shape), turned=plain(turned))


if __name__ == "__main__":
    out = dict(scaling=[case for s in settings for case in scaled(*s)], phi3=of_phi3(),
               axial=[of_dino(2, 3, 3, 8), of_dino(3, 2, 0, 12)],
               multi=[of_qwen("blocks", [2, 1, 3], 1.0), of_qwen("interleaved", [3, 2, 2], 0.5),
                      of_qwen("interleaved", [5, 2, 1], 1.0)],
               pairs=of_cohere())
    rows = {k: "[\n" + ",\n".join(map(json.dumps, v)) + "]" if isinstance(v, list) else json.dumps(v) for k, v in out.items()}
    dest.write_text("{\n" + ",\n".join(f'"{k}": {v}' for k, v in rows.items()) + "\n}\n")
    print(dest, dest.stat().st_size, "bytes, torch", torch.__version__, "transformers", transformers.__version__)
