"""The document that the library grew from: its code blocks, kept verbatim in seed_cells.py, run unchanged."""
import os
import subprocess
import sys
from pathlib import Path

from notebooks import code, nbs, root

seed = Path(__file__).parent / "seed_cells.py"
living = nbs / "00_getting_started.ipynb"


def test_seed_document_runs():
    """All blocks, in order, in one process."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    r = subprocess.run([sys.executable, str(seed)], env=env, capture_output=True, text=True, timeout=600)
    assert r.returncode == 0, "\n".join(r.stderr.splitlines()[-25:])


def test_seed_document_lives_on():
    """Each block is a cell of the first notebook, unchanged and in the same order."""
    blocks = [b.strip() for b in seed.read_text(encoding="utf-8").split("\n# %%\n")[1:]]
    assert len(blocks) == 21
    told = [c["source"].strip() for c in code(living)]
    assert [b for b in blocks if b not in told] == []
    places = [told.index(b) for b in blocks]
    assert places == sorted(places)
