"""The README is its page, block after block in one session, and it and a user's script are clean for a type checker."""
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import colab
import pytest
from notebooks import code, root
from public_names import stale_pages

needs = re.compile(r"# Needs the package (\w+)\n")
script = '''
import jax.numpy as jnp
from flax import nnx

import attnax
from attnax import (
    MultiHeadAttention, TransformerConfig, TransformerLM, VisionTransformerConfig, causal_mod, compose_score_mods,
    generate, mask_mod_to_score_mod)
from attnax.pretrained import load_pretrained

def ramp(s, batch, head, i, j): return s - 0.2 * abs(i - j)
def near(batch, head, i, j): return i - j < 3

mod = compose_score_mods(ramp, lambda s, b, h, q, k: jnp.where(q >= k, s, -jnp.inf), mask_mod_to_score_mod(near), causal_mod())
layer = MultiHeadAttention(nnx.Rngs(0), num_heads=2, in_features=16, score_mod=mod, attention_type="flash")
out = layer(jnp.ones((1, 5, 16)), score_mod=lambda scores, b, h, q, k: scores)
config = TransformerConfig(vocab_size=11, d_model=16, num_heads=2, attention_type="memory_efficient", pos_emb_type="rope")
images = VisionTransformerConfig(attention_type="standard", pool="mean")
ids = generate(TransformerLM(nnx.Rngs(0), config), jnp.ones((1, 3), jnp.int32), max_new_tokens=2)
print(attnax.__version__, attnax.generate, attnax.models.generate.generate, attnax.testing.check_attention_fn)
print(attnax.pretrained.load_pretrained, attnax.training.run_demo, attnax.bench.bench_moe, attnax.layers.RMSNorm)
print(attnax.kernels.score_mods, attnax.kernels.flash)
def width(folder: str):
    model = load_pretrained(folder)
    return model.config.d_model if isinstance(model, TransformerLM) else None
'''


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (root / "README.md").read_text(encoding="utf-8"), re.M | re.S)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg"}


def test_readme_runs_as_pasted():
    """Its blocks are the cells of nbs/index.ipynb, which `test_notebooks` runs in this order in one session, and of what is
    hidden there nothing helps: the first cell, which installs in Colab and does nothing elsewhere."""
    shown, hidden = [], []
    for c in code(root / "nbs" / "index.ipynb"):
        source = re.sub(r"^#\|.*\n?", "", c["source"], flags=re.M).strip()
        if "hide" in c["directives"]: hidden.append(c["id"])
        elif source: shown.append(source)
    assert [b.strip() for b in blocks()] == shown and len(shown) >= 5 and hidden == [colab.ID]
    # a block that needs a package of its own says so to who pastes it, and to the page
    own = [c for c in code(root / "nbs" / "index.ipynb") if "real_weights" in c["directives"]]
    assert [needs.findall(c["source"]) for c in own] == [c["directives"]["real_weights"].split() for c in own] and len(own) <= 1


def checked(folder, files: dict[str, str]) -> dict[str, list[str]]:
    """What basedpyright, as strict as pyright is by itself, has to say of each of some files."""
    for name, text in files.items(): (folder / name).write_text(text, encoding="utf-8")
    options = {"typeCheckingMode": "standard", "extraPaths": [str(root)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(options), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(folder)]
    said = json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout)
    errors = [d for d in said["generalDiagnostics"] if d["severity"] == "error"]
    of = lambda name: [f"line {d['range']['start']['line'] + 1}: {d['rule']}" for d in errors if Path(d["file"]).name == name]
    assert said["summary"]["filesAnalyzed"] == len(files)
    return {name: of(name) for name in files}


@pytest.mark.skipif(importlib.util.find_spec("basedpyright") is None, reason="basedpyright, of the extra `dev`, is not installed")
def test_readme_and_users_are_well_typed(tmp_path):
    """And the checker does look: a name, a mod, a word and a keyword that there are not."""
    wrong = ["import attnax; attnax.generat", "from attnax import compose_score_mods; compose_score_mods(lambda s, q, k: s)",
             "from attnax import TransformerConfig; TransformerConfig(vocab_size=9, attention_type='fast')",
             "from attnax import TransformerConfig; TransformerConfig(vocab_size=9, width=3)"]
    named = {f"wrong{i}.py": text for i, text in enumerate(wrong)}
    said = checked(tmp_path, {"readme.py": "\n".join(blocks()), "user.py": script} | named)
    assert (said.pop("readme.py"), said.pop("user.py")) == ([], [])
    assert [len(errors) for errors in said.values()] == [1] * len(wrong)


def test_names_are_those_of_the_imports():
    """The lists of names in the pages of packages are what `tools/public_names.py` writes."""
    assert stale_pages() == [], "run `python tools/public_names.py --write`"


PROMPTS = """
import os
import sys

import attnax

assert not {"jax", "flax"} & set(sys.modules), "the import is heavy"
import flax.nnx, optax   # which every session would import; of attnax nothing more
assert [name for name in sys.modules if name.startswith("attnax.")] == []
for name in sys.argv[1:]:
    if os.fork():
        os.wait()
        continue
    thing = attnax
    for part in name.split("."): thing = getattr(thing, part)
    print(name, callable(thing))
    sys.exit()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="sessions are forks of one")
def test_first_prompt():
    """What README names is there after `import attnax` alone, each in a session of its own; and the import is light."""
    names = ("testing.check_attention_fn pretrained.load_pretrained training.run_demo bench.bench_moe models.TransformerLM "
             "layers.RMSNorm kernels.flash_attention kernels.score_mods.causal_mod models.generate.generate generate").split()
    command = [sys.executable, "-c", PROMPTS, *names, "__version__"]
    said = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert said.stdout.split("\n")[:-1] == [*(f"{name} True" for name in names), "__version__ False"], said.stderr
