"""Models by name: the true client of the hub, in processes of its own, against a small hub on loopback."""
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from flax import nnx
from hub import Hub, Repository
from notebooks import nbs, root

import attnax as ax
from attnax.pretrained import load_pretrained, save_pretrained

pytest.importorskip("huggingface_hub")

# What runs beside the server: every answer is printed as one line of JSON, by name
ONLINE = """
import json, socket, sys, time, urllib.request
import jax.numpy as jnp, numpy as np
import attnax as ax
from attnax.pretrained import describe_pretrained, fetch_pretrained, load_pretrained
from attnax.pretrained.embedder import open_embedder

hub, local = sys.argv[1:]
def tell(name, value): print(json.dumps([name, value]), flush=True)
def fails(name, path, f=load_pretrained, **options):
    try: f(path, **options)
    except Exception as e: tell(name, [type(e).__name__, str(e)])
    else: tell(name, None)
def written(model): return np.asarray(ax.generate(model, jnp.array([[3, 14, 15]]), max_new_tokens=12)).tolist()

tell("described", [str(describe_pretrained("org/large", token="hf_good")), str(describe_pretrained(f"{local}/large"))])
tell("gguf described", [str(describe_pretrained(p)) for p in ("org/whole/q/tiny.gguf", f"{local}/whole/q/tiny.gguf")])
named = load_pretrained("org/sharded")
tell("tokens", [written(named), written(load_pretrained(f"{local}/sharded"))])
commit = fetch_pretrained("org/sharded").name
tell("commit", [commit, *(written(load_pretrained("org/sharded", revision=x)) == written(named) for x in ("main", commit))])
tell("texts", sorted(p.name for p in fetch_pretrained("org/texts", weights=False).iterdir()))
sentence = load_pretrained("org/sentence")
tell("sentence", [sentence.pooling, sentence.normalize])
tell("layers described", [str(describe_pretrained(p)) for p in ("org/gemma", f"{local}/gemma")])
embedders = [open_embedder(p) for p in ("org/gemma", f"{local}/gemma")]
tell("layers", [[layer.linear.out_features for layer in e.model.vector_layers] for e in embedders])
tell("vectors", [e.embed(["the ship sank"], prompt_name="query").tolist()[0] for e in embedders])
tell("gguf", [written(load_pretrained(p)) for p in ("org/whole/q/tiny.gguf", f"{local}/whole/q/tiny.gguf")])
tell("with a token", sorted(p.name for p in fetch_pretrained("org/gated", token="hf_good", weights=False).iterdir()))
fails("gated 401", "org/gated-too"); fails("gated 403", "org/closed", token="hf_good")
fails("no repository", "org/none"); fails("private", "org/private"); fails("no revision", "org/sharded", revision="v2")
fails("pickles", "org/pickles"); fails("only gguf", "org/whole"); fails("no file", "org/whole/none.gguf")
fails("family", "org/unknown"); fails("no such folder", "no-such-folder")
urllib.request.urlopen(hub + "/close").read()
while socket.socket().connect_ex(("127.0.0.1", int(hub.rsplit(":", 1)[1]))) == 0: time.sleep(0.05)
tell("gone, from the cache", written(load_pretrained("org/sharded")) == written(named))
tell("local files", written(load_pretrained("org/sharded", local_files_only=True)) == written(named))
tell("local gguf", written(load_pretrained("org/whole/q/tiny.gguf", local_files_only=True)) == written(named))
from attnax.pretrained import read_gguf
tell("read gguf", read_gguf("org/whole/q/tiny.gguf", local_files_only=True).fields
     == read_gguf(f"{local}/whole/q/tiny.gguf").fields)
fails("gone", "org/never"); fails("local only", "org/never", local_files_only=True)
fails("only texts", "org/texts", local_files_only=True)
"""
OFFLINE = ONLINE[:ONLINE.index("tell(\"described\"")] + """
tell("offline", [written(load_pretrained(p)) for p in ("org/sharded", f"{local}/sharded")])
tell("offline description", [str(describe_pretrained(p)) for p in ("org/sharded", f"{local}/sharded")])
fails("offline none", "org/never"); fails("offline gguf", "org/whole/none.gguf")
"""


def make_tokenizer(path):
    """The smallest tokenizer there is: a vocabulary of words."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: i for i, word in enumerate("[UNK] to be or not that is the question".split())}
    tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]")).save(str(path))


def make_gguf(path, model):
    """The model as llama.cpp's converter writes it, one file and nothing else."""
    gguf = pytest.importorskip("gguf")
    from attnax.pretrained.family import tensors_of
    from attnax.pretrained.gguf_llama import LLAMA_NAMES, OUTSIDE
    from attnax.pretrained.llama import LLAMA
    path.parent.mkdir(parents=True)
    c, names = model.config, {theirs: ours for ours, theirs in (LLAMA_NAMES | OUTSIDE).items()}
    w = gguf.GGUFWriter(path, "llama")
    w.add_block_count(c.num_layers); w.add_context_length(c.max_len); w.add_embedding_length(c.d_model)
    w.add_feed_forward_length(c.d_ff); w.add_head_count(c.num_heads); w.add_head_count_kv(c.num_kv_heads)
    w.add_layer_norm_rms_eps(c.norm_eps); w.add_rope_freq_base(c.rope_base); w.add_rope_dimension_count(c.d_model // c.num_heads)
    for name, x in tensors_of(LLAMA, model).items():
        _, layers, i, *rest = parts = name.removesuffix(".weight").split(".") + 2 * [""]
        inside = layers == "layers"
        new = (f"blk.{i}." if inside else "") + names[".".join(rest if inside else parts).rstrip(".")] + ".weight"
        heads = c.num_heads if "q_proj" in name else c.num_kv_heads if "k_proj" in name else 0
        if heads: x = x.reshape(heads, 2, -1, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
        w.add_tensor(new, np.ascontiguousarray(x, np.float32))
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()


def make_repositories(home):
    """Folders of a tiny random model in all that a repository may hold, pickles among it."""
    config = ax.TransformerConfig(vocab_size=50, d_model=16, num_heads=4, num_kv_heads=2, num_layers=2, d_ff=24, max_len=64,
                                  pos_emb_type="rope", norm_type="rms", norm_eps=1e-5, ff_activation="swiglu", use_bias=False,
                                  tie_embeddings=False, dropout_rate=0.0)
    model = ax.TransformerLM(nnx.Rngs(0), config)
    save_pretrained(model, home / "sharded", family="llama", max_shard_bytes=4000)
    make_tokenizer(home / "sharded" / "tokenizer.json")
    for name, text in (("README.md", "# Tiny"), ("vocab.txt", "to\nbe\n"), ("chat_template.jinja", "{{ messages }}"),
                       ("pytorch_model.bin", "no weights: would run anything"),
                       ("original/model.safetensors", "the same once more")):
        (home / "sharded" / name).parent.mkdir(exist_ok=True)
        (home / "sharded" / name).write_text(text)
    save_pretrained(ax.TransformerLM(nnx.Rngs(0), replace(config, vocab_size=20_000)), home / "large", family="llama")
    for name in ("texts", "gated", "gated-too", "closed", "private"): shutil.copytree(home / "sharded", home / name)
    save_pretrained(load_pretrained(nbs / "fixtures" / "pretrained" / "bert"), home / "sentence")
    steps = home / "sentence" / "1_Pooling" / "config.json"
    ways = [k for k in json.loads(steps.read_text()) if k.startswith("pooling")]
    steps.write_text(json.dumps({way: way == "pooling_mode_max_tokens" for way in ways}))
    shutil.copytree(nbs / "fixtures" / "sentences" / "gemma", home / "gemma", ignore=shutil.ignore_patterns("*.npz"))
    for file in ("config.json", "model.safetensors"):
        shutil.copy(nbs / "fixtures" / "pretrained" / "embedding_gemma" / file, home / "gemma")
    for name, kind in (("pickles", "llama"), ("unknown", "swin")):
        (home / name).mkdir()
        said = json.loads((home / "sharded" / "config.json").read_text()) | {"model_type": kind}
        (home / name / "config.json").write_text(json.dumps(said))
        (home / name / "pytorch_model.bin").write_text("no weights")
    shutil.copy(next((home / "sharded").glob("model-00001-of-*")), home / "unknown" / "model.safetensors")
    make_gguf(home / "whole" / "q" / "tiny.gguf", model)
    special = {"closed": dict(gated=403), "private": dict(private=True)}
    special |= {name: dict(gated=401) for name in ("gated", "gated-too", "large")}
    return {f"org/{p.name}": Repository(p, **special.get(p.name, {})) for p in sorted(home.iterdir())}


def child(script, hub, home, cache, **more):
    """Answers of a process that has the true client and talks to this hub alone."""
    gone = ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HOME", "HTTP_PROXY", "http_proxy")
    env = {k: v for k, v in os.environ.items() if k not in gone}
    env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}
    env |= {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu", **more}
    command = [sys.executable, "-c", script, hub.url, str(home)]
    done = subprocess.run(command, cwd=cache, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return dict(map(json.loads, done.stdout.splitlines())) | {"stderr": done.stderr}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the processes said, and the hub with its log: first with it, then without."""
    home, cache = tmp_path_factory.mktemp("repositories"), tmp_path_factory.mktemp("cache")
    repositories = make_repositories(home)
    second = next((home / "sharded").glob("model-00002-of-*")).name
    cut = f"/org/sharded/resolve/{repositories['org/sharded'].commit}/{second}"
    with Hub(repositories, cut=frozenset([cut])) as hub:
        said = child(ONLINE, hub, home, cache)
    return said | child(OFFLINE, hub, home, cache, HF_HUB_OFFLINE="1") | {"hub": hub, "cut": cut}


# ---- A name is a model

@pytest.mark.parametrize("what", ["tokens", "offline", "gguf"])
def test_same_as_the_folder(told, what):
    """By name, online and from the cache, in shards and in one file: the tokens of the local folder."""
    named, local = told[what]
    assert named == local and len(named[0]) == 12


def test_commit(told):
    assert told["commit"] == [told["hub"].repositories["org/sharded"].commit, True, True]


def test_sentence_encoder_brings_its_pooling(told):
    assert told["sentence"] == ["max", True]


def test_layers_behind_the_pooling_are_fetched(told):
    """Weights in folders of their own, as EmbeddingGemma has: the vectors of the local folder, in the width of the last layer."""
    asked = told["hub"].asked("gemma/.*_Dense/model.safetensors$")
    assert {re.sub(".*/([0-9]_Dense)/.*", r"\1", path) for path in asked} == {"2_Dense", "3_Dense"}
    assert told["layers"] == [[48, 24], [48, 24]]
    named, local = told["vectors"]
    assert len(named) == 24 and named == local


def test_texts_without_weights(told):
    """For a tokenizer alone: all texts, and neither weights, nor pickles, nor what only people read."""
    texts = ["chat_template.jinja", "config.json", "model.safetensors.index.json", "tokenizer.json", "vocab.txt"]
    assert told["texts"] == texts and told["with a token"] == texts


def test_no_pickle_is_asked_for(told):
    hub = told["hub"]
    assert hub.asked("sharded") and hub.asked(r"\.bin|\.pt$|README|/original/") == []


def test_config_is_read_before_weights(told):
    error, words = told["family"]
    assert error == "NotImplementedError" and "`model_type`='swin'" in words
    assert told["hub"].asked("unknown/.*/config.json") and not told["hub"].asked("unknown/.*safetensors$")


def test_interrupted_download_goes_on(told):
    """The connection is lost in the middle of a shard: the client asks again, and the shard is whole."""
    hub, cut = told["hub"], told["cut"]
    sent = [n for method, path, n in hub.log if path == cut and method == "GET"]
    size = (hub.repositories["org/sharded"].folder / cut.rsplit("/", 1)[1]).stat().st_size
    assert hub.cut == set() and sum(n for n in sent if n) >= size and len(sent) >= 2, sent


@pytest.mark.parametrize("what", ["described", "gguf described", "layers described", "offline description"])
def test_description(told, what):
    """What headers say through the hub is what they say here."""
    named, local = (text.splitlines() for text in told[what])
    assert named[1:] == local[1:] and re.match(r"model +org/\w+|model +tiny.gguf", named[0]), (named, local)


def test_description_needs_no_weights(told):
    hub, path = told["hub"], "/org/large/resolve/"
    sent = sum(n for method, asked, n in hub.log if method == "GET" and path in asked and asked.endswith(".safetensors"))
    assert 0 < sent <= 100_001 < (hub.repositories["org/large"].folder / "model.safetensors").stat().st_size


# ---- What goes wrong is one line that says what to do

@pytest.mark.parametrize("case, error, words", [
    ("gated 401", "PermissionError", "org/gated-too is gated: accept its terms at {hub}/org/gated-too, then `hf auth login`"),
    ("gated 403", "PermissionError", "org/closed is gated: this account has no access to it; ask for it at {hub}/org/closed"),
    ("no repository", "FileNotFoundError", "there is no folder org/none, and no model of that name at {hub}: check the spelling"),
    ("private", "FileNotFoundError", "a private one needs `hf auth login`, HF_TOKEN or `token`"),
    ("no revision", "FileNotFoundError", "org/sharded has no revision 'v2': {hub}/org/sharded/commits/main lists commits"),
    ("pickles", "ValueError", "org/pickles has no model.safetensors, only pickles (pytorch_model.bin), which are never fetched"),
    ("only gguf", "ValueError", "org/whole has no config.json, and GGUF files: load \"org/whole/q/tiny.gguf\""),
    ("no file", "FileNotFoundError", "org/whole has no file none.gguf: {hub}/org/whole/tree/main lists those there are"),
    ("no such folder", "FileNotFoundError", "there is no folder no-such-folder; a model on the hub is called org/name"),
    ("gone", "ConnectionError", "there is no folder org/never, and {hub} cannot be reached for the model of that name"),
    ("local only", "FileNotFoundError", "there is no folder org/never, the cache has not all of the model of that name"),
    ("only texts", "FileNotFoundError", "the cache has not all of the model of that name, and downloads are switched off"),
    ("offline none", "FileNotFoundError", "without `local_files_only` and HF_HUB_OFFLINE, or `hf download org/never`"),
    ("offline gguf", "FileNotFoundError", "the cache has not all of the model of that name, and downloads are switched off"),
])
def test_one_line(told, case, error, words):
    kind, said = told[case]
    assert kind == error and words.format(hub=told["hub"].url) in said and "\n" not in said, told[case]


@pytest.mark.parametrize("how", ["gone, from the cache", "local files", "local gguf", "read gguf"])
def test_without_the_hub(told, how):
    """What was fetched once is there: asked for so, and when the hub has gone."""
    assert told[how] is True
