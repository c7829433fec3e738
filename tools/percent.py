"""Notebooks as text: `percent.py show NB` prints a notebook in the percent format with its cell ids,
`percent.py build FILE.py ...` writes nbs/FILE.ipynb from such text, exports it, runs it and saves its outputs.

A cell opens with `# %% cell-id` (code) or `# %% [markdown] cell-id`; the body of a markdown cell stands between two
lines of three double quotes. Ids are short and say what the cell is for, so that diffs and `_modidx` stay readable.
(jupytext's percent format has no place for cell ids, which is why this small script exists.)
"""
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

root = Path(__file__).resolve().parent.parent
head = re.compile(r"^# %% ?(\[markdown\])? ?([\w.-]+)[ ]*$", re.M)


def to_text(nb) -> str:
    out = []
    for c in nb.cells:
        if c.cell_type == "markdown": out.append(f'# %% [markdown] {c.id}\n"""\n{c.source}\n"""\n')
        else: out.append(f"# %% {c.id}\n{c.source}\n")
    return "\n".join(out)


def from_text(text: str, old=None):
    parts = head.split(text)
    if parts[0].strip(): raise ValueError(f"text before the first cell: {parts[0].strip()[:80]!r}")
    kept = {(c.id, c.source): c for c in old.cells} if old else {}
    cells, seen = [], set()
    for md, cid, body in zip(parts[1::3], parts[2::3], parts[3::3]):
        if cid in seen: raise ValueError(f"cell id {cid!r} is used twice")
        seen.add(cid)
        body = body.strip("\n")
        if md:
            m = re.fullmatch(r'r?"""\n(.*)\n"""', body, re.S)
            if not m: raise ValueError(f"markdown cell {cid!r} must stand between two lines of three double quotes")
            cells.append(new_markdown_cell(m[1], id=cid))
        else:
            c = new_code_cell(body, id=cid)
            if (cid, body) in kept: c.outputs = kept[cid, body].get("outputs", [])
            cells.append(c)
    meta = {"language_info": {"name": "python"}}
    return new_notebook(cells=cells, metadata=meta)


def build(src: Path, execute: bool = True) -> int:
    dest = root / "nbs" / (src.stem + ".ipynb")
    old = nbformat.read(dest, 4) if dest.exists() else None
    nbformat.write(from_text(src.read_text(encoding="utf-8"), old), dest)
    code = f"from pathlib import Path; from nbdev.export import nb_export; nb_export(Path({str(dest)!r}))"
    r = subprocess.run([sys.executable, "-c", code], cwd=root)
    if r.returncode or not execute: return r.returncode
    return subprocess.run([sys.executable, root / "tools" / "exec_nbs.py", str(dest)], cwd=root).returncode


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("show", "build"): sys.exit(__doc__)
    if sys.argv[1] == "show": print(to_text(nbformat.read(sys.argv[2], 4)), end="")
    else: sys.exit(max(build(Path(a)) for a in sys.argv[2:]))
