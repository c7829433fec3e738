"""The document that the library grew from: its code runs unchanged, and the repository holds no copy of it."""
import os
import re
import subprocess
import sys

import pytest
from notebooks import cells, notebooks, root
from test_notebooks import compiled_in

seed = root.parent / "shared" / "seed"
where_it_is = pytest.mark.skipif(
    not (seed / "cells.py").is_file(),
    reason="../shared/seed/cells.py is not there: nothing runs the code blocks of the document that the library grew from, "
           "and nothing compares our pages with its text")
WORDS, LINES = 8, 3  # so many words of prose, or lines of code, in a row are a quotation


def blocks() -> list[str]:
    """The code blocks of the document, in order."""
    text = (seed / "cells.py").read_text(encoding="utf-8")
    return [b.strip() for b in re.split(r"^# %%$", text, flags=re.M)[1:]]


def lines(code: str) -> list[str]:
    """Lines of code without spacing, empty lines and imports, which say the same in everybody's hand."""
    stripped = [re.sub(r"\s+", "", line) for line in code.splitlines()]
    return [x for x in stripped if len(x) > 3 and not re.match(r"import|from\w+(\.\w+)*import", x)]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9_']+", text.lower())


def runs(items: list[str], n: int) -> set[tuple[str, ...]]:
    """Every `n` items in a row."""
    return {tuple(items[i:i + n]) for i in range(len(items) - n + 1)}


def told() -> dict[str, list[tuple[str, str]]]:
    """Of README and each notebook the pieces, each with its kind."""
    pieces = {nb.name: [(c["cell_type"], c["source"]) for c in cells(nb)] for nb in notebooks()}
    readme = re.split(r"^```\w*\n", (root / "README.md").read_text(encoding="utf-8"), flags=re.M)
    return pieces | {"README.md": [("code" if i % 2 else "markdown", part) for i, part in enumerate(readme)]}


def quoted(prose: str, code: list[str]) -> list[tuple[str, str]]:
    """Where README or a notebook repeats the prose, or one of the pieces of code: the page, and what stands there."""
    sentences, blocks = runs(words(prose), WORDS), set().union(*(runs(lines(b), LINES) for b in code))
    found = []
    for page, pieces in told().items():
        for kind, text in pieces:
            same = runs(words(text), WORDS) & sentences
            if kind == "code": same |= runs(lines(text), LINES) & blocks
            found += [(page, " ".join(run)) for run in sorted(same)]
    return found


@where_it_is
def test_seed_runs(pytestconfig):
    """All blocks, unchanged, in order, in one process."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)} | compiled_in(pytestconfig.cache.mkdir("xla"))
    r = subprocess.run([sys.executable, str(seed / "cells.py")], env=env, capture_output=True, text=True, timeout=600)
    assert r.returncode == 0, "\n".join(r.stderr.splitlines()[-25:])


@where_it_is
def test_seed_is_not_quoted():
    """No eight words of its prose and no three lines of its code stand in a row in README or a notebook."""
    code = {re.sub(r"\s+", " ", line.strip()) for b in blocks() for line in b.splitlines()} - {""}
    text = (seed / "getting_started.md").read_text(encoding="utf-8")
    prose = "\n".join(line for line in text.splitlines() if re.sub(r"\s+", " ", line.strip()) not in code)
    assert len(words(prose)) > 500 and len(blocks()) > 10, "the document was not read"
    assert quoted(prose, blocks()) == []


def test_quotation_is_found():
    """The comparison sees eight words and three lines of our own, whatever the spacing."""
    nb = next(nb for nb in notebooks() if nb.name.startswith("20_"))
    markdown = next(c["source"] for c in cells(nb) if c["id"] == "what-you-will-know")
    code = next(c["source"] for c in cells(nb) if c["id"] == "standard-attention")
    assert (nb.name, " ".join(words(markdown)[:WORDS])) in quoted(" .\n".join(words(markdown)), [])
    assert any(page == nb.name for page, _ in quoted("", [code.replace("    ", "  ")]))
    assert quoted("these eight words stand on no page at all today", ["a = 11\nb = 12\nc = 13"]) == []
