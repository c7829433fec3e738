"""What holds across notebooks: the package is what they say, in an order that can be read, and clean."""
import ast
import filecmp
import os
import re
import shutil
import subprocess
import sys

import pytest
from notebooks import cells, code, links, module, nbs, notebooks, prose, root

each_notebook = pytest.mark.parametrize("nb", notebooks(), ids=lambda p: p.stem)
each_module = pytest.mark.parametrize("py", sorted((root / "attnax").rglob("*.py")), ids=lambda p: str(p.relative_to(root)))
NOT_GENERATED = ("py.typed", "data")
ASIDE = re.compile(r"0[3-9]|8[0-4]")  # guides and tutorials, which the sidebar has before the story


@pytest.fixture
def copy(tmp_path):
    """The notebooks and what nbdev reads, in a folder of their own."""
    shutil.copytree(nbs, tmp_path / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in ("settings.ini", "pyproject.toml", "_quarto.yml"): shutil.copy(root / name, tmp_path)
    return tmp_path


def nbdev(command: str, folder):
    """Run one of nbdev's commands, such as `nbdev.doclinks:nbdev_export`, as from a terminal."""
    where, name = command.split(":")
    env = {k: v for k, v in os.environ.items() if k != "IN_TEST"}
    subprocess.run([sys.executable, "-c", f"import sys; sys.argv = ['{name}']; from {where} import {name}; {name}()"],
                   cwd=folder, env=env, check=True, stdin=subprocess.DEVNULL)


def files(folder):
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    return {p for p in found if p.split("/")[0] not in NOT_GENERATED}


# ---- The package is what the notebooks say

def test_package_is_exported(copy):
    nbdev("nbdev.doclinks:nbdev_export", copy)
    fresh, ours = copy / "attnax", root / "attnax"
    missing, extra = sorted(files(fresh) - files(ours)), sorted(files(ours) - files(fresh))
    differ = [f for f in sorted(files(fresh) & files(ours)) if not filecmp.cmp(fresh / f, ours / f, shallow=False)]
    assert (missing, extra, differ) == ([], [], []), f"run nbdev_export: {missing=} {extra=} {differ=}"


def test_public_names():
    """Names, and what their arguments are when nobody says: a default that changes is a change of everybody's program."""
    script = root / "tools" / "public_names.py"
    said = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    now, listed = (set(text.splitlines()) for text in (said.stdout, (root / "tests" / "public_names.txt").read_text()))
    assert (now - listed, listed - now) == (set(), set()), "new or gone; if meant: python tools/public_names.py --write"


def test_one_version():
    """What cites the library names its version; workflows are YAML that runs what exists."""
    import yaml
    from nbdev.config import get_config
    read = lambda name: yaml.safe_load((root / name).read_text(encoding="utf-8"))
    assert read("CITATION.cff")["version"] == get_config(cfg_name="settings.ini", path=root).version
    steps = [step for job in read(".github/workflows/test.yml")["jobs"].values() for step in job["steps"]]
    assert os.access(root / [step["run"] for step in steps if "run" in step][-1], os.X_OK)
    upload = read(".github/workflows/publish.yml")["jobs"]["upload"]
    assert upload["needs"] == "build" and upload["permissions"] == {"id-token": "write"}


def test_readme_is_generated():
    import readme
    assert readme.stale() == [], "run `python tools/readme.py`"


@each_module
def test_code_hides_nothing(py):
    """No assert (it vanishes under -O), no catch-all, no star import, nothing of JAX's private modules or of nbdev's."""
    bad = []
    for node in ast.walk(ast.parse(py.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assert): bad.append((node.lineno, "assert"))
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            if re.search(r"everything|\bException\b|\bBaseException\b", caught): bad.append((node.lineno, f"catches {caught}"))
        if isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names): bad.append((node.lineno, "star import"))
        if isinstance(node, ast.Import | ast.ImportFrom) and "jax._src" in ast.unparse(node): bad.append((node.lineno, "_src"))
        if isinstance(node, ast.Import | ast.ImportFrom) and re.match(r"\w+ (nbdev|execnb|fastcore)\b", ast.unparse(node)):
            bad.append((node.lineno, "a package of the dev extra"))
    assert bad == [], f"attnax/{py.name}: {bad}"


# ---- The notebooks can be read in order

def rank(nb) -> tuple:
    """The number that opens a notebook's name; `index` comes first."""
    m = re.match(r"(\d+)([a-z]?)_", nb.name)
    return (int(m[1]), m[2]) if m else (-1, "")


def imported(node: ast.AST, known: set[str]) -> set[str]:
    """The modules of attnax that an import statement reads."""
    if isinstance(node, ast.Import): names = {a.name for a in node.names}
    elif isinstance(node, ast.ImportFrom):
        base = "." * node.level + (node.module or "")
        names = {f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names}
    else: return set()
    return {n for n in names if n.split(".")[0] in ("attnax", "")}  # a relative import is not in the story at all


def test_imports_only_what_was_told():
    """A notebook imports from lower numbers only, inside functions too."""
    home = {module(nb): nb for nb in notebooks() if module(nb)}
    bad = []
    for nb in notebooks():
        for node in [n for c in code(nb, exported=True) for n in ast.walk(ast.parse(c["source"]))]:
            for m in imported(node, set(home)):
                if m not in home: bad.append(f"{nb.name} imports {m}, which no notebook tells")
                elif rank(home[m]) >= rank(nb): bad.append(f"{nb.name} imports {m}, which is told in {home[m].name}")
    assert bad == []


def sidebar() -> list[str]:
    """The notebooks of _quarto.yml's sidebar, in order."""
    return re.findall(r"^\s*- (?:href: |file: )?([\w.]+\.ipynb)\s*$", (root / "_quarto.yml").read_text(encoding="utf-8"), re.M)


def test_sidebar_is_complete():
    assert sorted(sidebar()) == [nb.name for nb in notebooks()]
    story = [name for name in sidebar() if not ASIDE.match(name)]
    assert story == sorted(story, key=lambda n: rank(nbs / n)), "the story follows the numbers"


@each_notebook
def test_title_and_summary(nb):
    first = cells(nb)[0]
    assert first["cell_type"] == "markdown" and re.fullmatch(r"# \S[^\n]*\n\n> \S.*", first["source"], re.S), \
        "the first cell is `# Title`, an empty line and `> one-line summary`, and nothing else"
    assert "\n" not in first["source"].split("\n> ")[1], "the summary is one line: it becomes the docstring of the module"


@pytest.mark.parametrize("nb", [nbs / name for name in sidebar()[1:-1]], ids=lambda p: p.stem)
def test_next_link(nb):
    """Every page but the last leads to the next one of the sidebar."""
    order = sidebar()
    last = [c["source"] for c in cells(nb) if c["cell_type"] == "markdown"][-1]
    to = re.findall(r"^Next: \[[^\]]+\]\(([^)#]+)[^)]*\)", last, re.M)
    assert to == [order[order.index(nb.name) + 1]]


@each_notebook
def test_links_resolve(nb):
    """Links between notebooks, and pictures, lead to files that exist; the site build checks the anchors."""
    local = [u.split("#")[0] for u in links(nb) if not re.match(r"[a-z]+:|#", u)]
    assert [u for u in local if not (nbs / u).exists()] == []


# ---- The notebooks are clean

def test_notebooks_are_clean(copy):
    nbdev("nbdev.clean:nbdev_clean", copy)
    assert [nb.name for nb in notebooks() if (copy / "nbs" / nb.name).read_bytes() != nb.read_bytes()] == [], "run nbdev_clean"


@each_notebook
def test_cell_ids(nb):
    """Ids say what a cell is for: they name the cell in the generated module, and make a diff readable."""
    ids = [c["id"] for c in cells(nb)]
    random = re.compile(r"(?=.*\d)[0-9a-f-]{6,}|cell-?\d*|\d+|.{41,}")
    assert [i for i in ids if random.fullmatch(i) or not re.fullmatch(r"[A-Za-z][\w.-]*", i)] == []
    assert len(ids) == len(set(ids)), "an id is used twice"


@each_notebook
def test_saved_outputs_are_tidy(nb):
    """No counts, no errors, no warnings, no addresses of objects."""
    for c in code(nb):
        assert c["execution_count"] is None, c["id"]
        for o in c["outputs"]:
            assert o.get("execution_count") is None, c["id"]
            assert o["output_type"] != "error" and o.get("name") != "stderr", f"{c['id']}: {o}"
            text = "".join(o.get("text", o.get("data", {}).get("text/plain", "")))
            assert not re.search(r"\b0x[0-9a-f]{6,}|/tmp/|/home/|/root/", text), f"{c['id']}: {text}"


@each_notebook
def test_prose_names_no_machine(nb):
    assert not re.search(r"/tmp/|/work/|/home/|/root/|localhost", prose(nb) + "".join(c["source"] for c in code(nb)))


# ---- Cells that fit on a screen

def test_cells_can_be_read_in_one_go():
    """Exported cells have at most 40 lines, lines of code at most 100 columns."""
    found = {}
    for nb in notebooks():
        for c in code(nb):
            if c["id"] == "colab": continue  # which tools/colab.py writes
            lines = [x for x in c["source"].splitlines() if x.strip() and not x.startswith("#|")]
            widest = max(map(len, lines), default=0)
            said = [f"{len(lines)} lines"] if c in code(nb, exported=True) and len(lines) > 40 else []
            said += [f"a line of {widest} columns"] if widest > 100 else []
            if said: found[f"{nb.name} {c['id']}"] = ", ".join(said)
    assert found == {}, "split the cell, or the line"
