"""Write nbs/fixtures/parity.csv: how far attnax is from Hugging Face transformers on every model under
nbs/fixtures/pretrained, and whether what it saves comes back there.

    pip install torch transformers
    python tools/make_parity_table.py            # every fixture
    python tools/make_parity_table.py bert gpt2  # these again, the other rows as they are

A row is a model: its `model_type`, layers, width and parameters; the largest relative error of its states, of its logits (or
what it gives in their place) and of its logits out of caches, which are filled in three pieces; the greedy tokens that are
equal; and what transformers reads of the folder that attnax writes, tensors and outputs compared bit for bit.
"""
import argparse
import csv
import json
import sys

import jax.numpy as jnp
import make_fixtures as fixtures
import numpy as np
import torch
import transformers
from flax import nnx

sys.path.insert(0, str(fixtures.root))

from attnax.layers.memory import init_decoder_kv_caches_from_config
from attnax.models.generate import generate
from attnax.pretrained import load_pretrained, save_pretrained
from attnax.pretrained.family import language_model_errors, relative_error

table = fixtures.folder.parent / "parity.csv"
COLUMNS = ("model_type", "fixture", "layers", "width", "parameters", "states", "logits", "cached", "tokens", "of", "round_trip")


def run(model, *args): return nnx.jit(lambda model, *args: model(*args))(model, *args)


def causal(model, want) -> dict:
    errors = language_model_errors(model, want)
    total = want["generated"].size
    return dict(states=errors["hidden"], logits=errors["logits"], cached=errors["cached"],
                tokens=round(total * (1 - errors["generated"])), of=total)


def encoder(model, want) -> dict:
    seen = want["attention_mask"].astype(bool)
    if "token_type_ids" in want:
        hidden = nnx.jit(lambda model, kinds, *args: model(*args, token_type_ids=kinds))(
            model, want["token_type_ids"], want["input_ids"], seen)
    else: hidden = run(model, want["input_ids"], seen)
    found = dict(states=relative_error(hidden[seen], want["last_hidden_state"][seen]))
    if "logits" in want and model.masked_head is not None:
        found["logits"] = relative_error(model.logits(hidden)[seen], want["logits"][seen])
    elif "pooler_output" in want and model.pooler is not None:
        rows = seen[:, 0]   # what is pooled is the first token
        found["logits"] = relative_error(model.pool(hidden)[rows], want["pooler_output"][rows])
    return found


def vit(model, want) -> dict:
    return dict(logits=relative_error(run(model, jnp.moveaxis(want["pixel_values"], 1, -1)), want["logits"]))


def pair(model, want) -> dict:
    pixels, ids = jnp.moveaxis(want["pixel_values"], 1, -1), jnp.asarray(want["input_ids"])
    seen = nnx.jit(lambda model: model.encode_image(pixels, normalize=False))(model)
    read = nnx.jit(lambda model: model.encode_text(ids, normalize=False))(model)
    return dict(states=max(relative_error(seen, want["image_features"]), relative_error(read, want["text_features"])),
                logits=relative_error(run(model, pixels, ids), want["logits"]))


def tower(model, want) -> dict:
    seen = nnx.jit(lambda model, x: model.features(x))(model, jnp.moveaxis(want["pixel_values"], 1, -1))
    return dict(states=relative_error(seen, want["pooler_output"]))


def dino(model, want) -> dict:
    first, other = (jnp.moveaxis(want[n], 1, -1) for n in ("pixel_values", "other_values"))
    bare, count = nnx.clone(model), model.config.num_register_tokens
    bare.head = None
    def apart(states, name): return relative_error(states, np.delete(want[name], slice(1, 1 + count), axis=1))
    found = dict(states=max(apart(run(bare, first), "last_hidden_state"),
                            apart(run(bare.resized(other.shape[1:3]), other), "other_hidden")))
    return found if model.head is None else found | dict(logits=relative_error(run(model, first), want["logits"]))


def t5(model, want) -> dict:
    ids, target, new = jnp.asarray(want["input_ids"]), jnp.asarray(want["decoder_ids"]), want["generated"]
    seen = want["attention_mask"].astype(bool)
    encoded = nnx.jit(lambda model: model.encode(ids, source_mask=seen))(model)
    decode = nnx.jit(lambda model, piece, caches: model.decode(
        piece, encoder_output=encoded, source_mask=seen, layer_kv_caches=caches))
    caches = init_decoder_kv_caches_from_config(model.config, batch_size=len(ids), max_len=target.shape[1])
    pieces = []
    for piece in jnp.split(target, [target.shape[1] // 2, target.shape[1] - 1], axis=1):
        out, caches = decode(model, piece, caches)
        pieces.append(out)
    written = generate(model, target[:, :1], source=ids, source_mask=seen, max_new_tokens=new.shape[1], stop_token=())
    return dict(states=relative_error(encoded[seen], want["encoder_hidden"][seen]),
                logits=relative_error(decode(model, target, None), want["logits"]),
                cached=relative_error(jnp.concatenate(pieces, 1), want["logits"]),
                tokens=int((np.asarray(written) == new).sum()), of=new.size)


def whisper(model, want) -> dict:
    features, ids, new = jnp.asarray(want["features"]), jnp.asarray(want["decoder_ids"]), want["generated"]
    heard, logits = nnx.jit(lambda model: (model.encode(features), model(features, ids)))(model)
    written = generate(model, ids[:, :1], source=features, max_new_tokens=new.shape[1], stop_token=())
    return dict(states=relative_error(heard, want["encoder_hidden"]), logits=relative_error(logits, want["logits"]),
                tokens=int((np.asarray(written) == new).sum()), of=new.size)


JUDGES = dict(causal=causal, bert=encoder, states=encoder, encoder=encoder, vit=vit, pair=pair, tower=tower, dino=dino,
              whisper=whisper, t5=t5)


def first(config: dict, *names: str):
    """The first of several names that a config has, in its own words or in those of its text half."""
    return next((config[n] for n in names if config.get(n) is not None), "")


def row(name: str) -> dict:
    """A line of the table."""
    path = fixtures.folder / name
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    with np.load(path / "expected.npz") as z: want = dict(z)
    model = load_pretrained(path)
    errors = JUDGES[fixtures.FAMILIES[name].run](model, want)
    good, line = fixtures.round_trip(name, path, load_pretrained, save_pretrained)
    print(line, flush=True)
    size = sum(x.size for x in fixtures.disk_tensors(path).values())
    kind = config["model_type"]
    config |= config.get("text_config", {})   # of two towers the text's
    layers = first(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")
    width = first(config, "hidden_size", "n_embd", "d_model", "dim")
    return dict(model_type=kind, fixture=name, layers=layers, width=width, parameters=size,
                **{n: f"{x:.0e}" if isinstance(x, float) else x for n, x in errors.items()},
                round_trip="bit for bit" if good else "")


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("fixtures", nargs="*", help="folders under nbs/fixtures/pretrained; all if none is given")
    chosen = p.parse_args().fixtures
    if wrong := set(chosen) - set(fixtures.FAMILIES): p.error(f"unknown fixtures {sorted(wrong)}")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    rows = {}
    if chosen and table.exists():
        with open(table, newline="", encoding="utf-8") as f: rows = {r["fixture"]: r for r in csv.DictReader(f)}
    for name in chosen or fixtures.FAMILIES: rows[name] = row(name)
    with open(table, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in fixtures.FAMILIES if name in rows)
    return 0


if __name__ == "__main__": sys.exit(main())
