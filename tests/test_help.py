"""`help()` says what the pages say: the true signature, and of every argument what it means."""
import functools
import inspect
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import flax.nnx as nnx
import help_texts
import pytest
from notebooks import root

import attnax as ax
from attnax.typing import _help_texts

public = help_texts.public()
nnx_classes = [x for x in public if isinstance(x, type) and issubclass(x, nnx.Module)]


def helped(thing) -> str: return pydoc.render_doc(thing, renderer=pydoc.plaintext)


def arguments(doc: str) -> list[str]:
    """The names under `Args:` and the like."""
    blocks = re.findall(r"^(?:Args|Called with|Values):\n((?:    .*\n?)+)", doc, re.M)
    return re.findall(r"^    (\**\w+)", "".join(blocks), re.M)


def test_file_is_fresh():
    assert help_texts.written.read_text(encoding="utf-8") == help_texts.as_json(), "python tools/help_texts.py --write"


def test_public_names_are_all_in_it():
    """Whatever the list of public names has, functions and classes of ours, has a docstring from the file."""
    names = {line.split()[0] for line in (root / "tests" / "public_names.txt").read_text(encoding="utf-8").splitlines()}
    texts = _help_texts()
    lacking = []
    for name in sorted(names):
        thing = ax
        for part in name.split(".")[1:]: thing = getattr(thing, part)
        if not (inspect.isfunction(thing) or isinstance(thing, type)): continue   # a list or a type of several names
        if texts[thing.__module__].get(thing.__qualname__) != thing.__doc__: lacking.append(name)
    assert lacking == []
    assert len(names) > 150


def test_every_parameter_is_explained(): assert help_texts.unexplained() == []


@pytest.mark.parametrize("thing", [x for x in public if inspect.isfunction(x)], ids=lambda f: f.__qualname__)
def test_function(thing):
    """The docstring names exactly the arguments that Python knows, and `help` shows it under the signature."""
    doc = inspect.getdoc(thing)
    assert [n.lstrip("*") for n in arguments(doc)] == list(inspect.signature(thing).parameters)
    text = helped(thing)
    assert f"{thing.__name__}(" in text and all(re.search(rf"^ +\**{n} \(|^ +\**{n}:|^ +\**{n}$", text, re.M)
                                                for n in inspect.signature(thing).parameters)
    assert "](" not in doc and ".ipynb" not in doc, "a link of a notebook"
    if inspect.signature(thing).return_annotation not in (None, inspect.Signature.empty): assert "\nReturns:\n" in doc


@pytest.mark.parametrize("thing", [x for x in public if isinstance(x, type)], ids=lambda c: c.__qualname__)
def test_class(thing):
    """What the docstring of a class names is what it is made with, and that is what `inspect` says."""
    doc = inspect.getdoc(thing) or ""
    assert "](" not in doc and ".ipynb" not in doc, "a link of a notebook"
    if "\nValues:\n" in doc: assert arguments(doc) == [m.name for m in thing]
    elif "\nCalled with:\n" not in doc: assert [n.lstrip("*") for n in arguments(doc)] == list(
        inspect.signature(thing).parameters if "\nArgs:\n" in doc else [])
    if not issubclass(thing, functools.partial):   # those have no signature before they are made
        assert not str(inspect.signature(thing)).startswith("(*args: 'Any'")


@pytest.mark.parametrize("thing", nnx_classes, ids=lambda c: c.__qualname__)
def test_signature_behind_the_metaclass(thing):
    signature = inspect.signature(thing)
    init = list(inspect.signature(thing.__init__).parameters.values())[1:]
    if thing is not ax.DecoderBlock: assert list(signature.parameters.values()) == init
    assert f"{thing.__name__}{signature}"[:60] in helped(thing).replace("\n", " ")


def test_decoder_block_shows_what_it_passes_on():
    ours, parent = (inspect.signature(c).parameters for c in (ax.DecoderBlock, ax.EncoderBlock))
    assert list(ours) == list(parent) and (ours["causal"].default, parent["causal"].default) == (True, False)


def test_subclass_of_yours_has_its_own_signature():
    class Mine(ax.MultiHeadAttention):
        def __init__(self, rngs, width, *, depth=2): super().__init__(rngs, num_heads=2, in_features=width)
    assert str(inspect.signature(Mine)) == "(rngs, width, *, depth=2)"
    class Same(ax.MultiHeadAttention): pass
    assert inspect.signature(Same) == inspect.signature(ax.MultiHeadAttention)
    layer = Mine(nnx.Rngs(0), 8)
    assert list(inspect.signature(layer).parameters)[:2] == ["x", "context"]   # an object is called by `__call__`


@pytest.mark.parametrize("thing, texts", [
    (ax.flash_attention, ['mask (Bool[Array, "#b #h #q #k"] | None, default None): True = may attend',
                          "dropout_rate (float, default 0.0): Share of the weights to drop, 0 <= rate < 1",
                          "With `return_lse` a pair `(out, lse)`"]),
    (ax.MultiHeadAttention, ["in_features (int): Width of the inputs, `m`",
                             "num_kv_heads (int | None, default None): Key/value heads"]),
    (ax.MultiHeadAttention.__call__, ['x (Float[Array, "b s m"]): Hidden states to attend from', "num_new_tokens (Int[Array,"]),
    (ax.TransformerConfig, ["d_model (int, default 512): Model width, `m`", "vocab_size (int): Number of token ids"]),
    (ax.generate, ["temperature (float | None, default None): 0: greedy; above: sampling",
                   "Sequence): Integers, or lists; padded on one side"]),
    (ax.ScoreMod, ['scores (Float[Array, "b h q k"]): Scaled scores of all pairs']),
    (ax.AttentionType, ['LINEAR ("linear"): Softmax-free linear attention']),
    (ax.KVLayerCache.take_in, ["keys_new: As in `LayerCache.take_in`"]),
    (ax.pretrained.load_pretrained, ["dtype ("]), (ax.testing.check_attention_fn, ["fn (AttentionFn): Kernel to check"]),
    (ax.load_weights, ["Args:"]), (ax.training.run_demo, ["Args:"])], ids=lambda x: getattr(x, "__qualname__", ""))
def test_texts(thing, texts):
    said = " ".join(helped(thing).replace("|", " ").split())
    for text in texts: assert " ".join(text.replace("|", " ").split()) in said


def test_whichever_way_it_is_imported():
    """Through the package, from its own module, with no other name asked for before."""
    for line in ("from attnax.kernels.flash import flash_attention as f", "from attnax.audio import log_mel_spectrogram as f",
                 "from attnax.models.generate import generate as f"):
        script = f"{line}\nprint(f.__doc__)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True)
        assert "\nArgs:\n" in done.stdout, line


def test_a_changed_comment_is_noticed(tmp_path, monkeypatch):
    """The text is made from the comment and nothing else."""
    module = sys.modules["attnax.kernels.flash"]
    copy = tmp_path / "flash.py"
    copy.write_text(Path(module.__file__).read_text(encoding="utf-8").replace("# Queries\n", "# Questions\n"), encoding="utf-8")
    monkeypatch.setattr(module, "__file__", str(copy))
    help_texts.source.cache_clear()
    try: (query, *_), returns = help_texts.of_function(*help_texts.definition(ax.flash_attention))
    finally: help_texts.source.cache_clear()
    assert query.line() == 'query (Float[Array, "b h q d"]): Questions'
    assert returns.startswith('Float[Array, "b h q e"]: With `return_lse`')
