"""The addresses of the repository and of the site stand in settings.ini alone; what shows one agrees with it.

The package index has another project of our name, so nothing here tells anyone to install ours from there.
"""
import json
import re
import subprocess
import sys
from importlib.metadata import metadata

import pytest
from notebooks import root
from readme import addresses

site, repository = addresses()
owner = repository.removeprefix("https://github.com/")
allowed = (site, repository, f"git+{repository}", f"https://colab.research.google.com/github/{owner}/")
named = re.compile(r"(?:git\+)?https?://[^\s\"'`()<>\\\]]*attnax[^\s\"'`()<>\\\]]*|git@[^\s\"']*attnax[^\s\"']*")
LEFT_OUT = ("settings.ini", "attnax/_modidx.py", "tests/test_addresses.py", "CHANGELOG.md")
WORDS = (".md", ".py", ".yml", ".yaml", ".toml", ".in", ".txt", ".css", ".html", "")
installs = re.compile(r"pip3? install(?:(?! in a clone)[^\n`;&])*")


def texts() -> dict[str, str]:
    """Every file of ours that has words, notebooks as their cells; what is generated from settings.ini left out."""
    said = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True)
    if said.returncode: pytest.skip("not a checkout of git")
    out = {}
    for name in said.stdout.splitlines():
        path = root / name
        if name in LEFT_OUT or not path.is_file(): continue
        if path.suffix == ".ipynb":
            out[name] = "\n".join("".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"])
        elif path.suffix in WORDS and path.stat().st_size < 2**20:
            out[name] = path.read_text(encoding="utf-8", errors="replace")
    return out


def strange(text: str) -> list[str]:
    """Addresses of a repository or a site of our name that are not those of settings.ini."""
    ours = re.compile("|".join(re.escape(a) + ("" if a.endswith("/") else r"(?![\w-])") for a in allowed))
    return [u for u in named.findall(text) if not ours.match(u)]


def from_the_index(text: str) -> list[str]:
    """Commands that would install the other project: `attnax` as a requirement without an address behind it."""
    bare = r"(?<![\w./-])['\"]?attnax(?:\[[\w,{}]*\])?(?:\s*[=<>~!]=?[\d.]+)?['\"]?(?=\s|$|[).,:])(?!\s*@)"
    return [c for c in installs.findall(text) if re.search(bare, c)]


def test_addresses():
    assert {name: found for name, text in texts().items() if (found := strange(text))} == {}, "settings.ini has the addresses"


def test_nothing_installs_the_other_project():
    assert {name: found for name, text in texts().items() if (found := from_the_index(text))} == {}


def test_what_is_looked_for_is_found():
    other = repository.replace("attnax/attnax", "someone/attnax")
    for bad in (other, f"git+{other}.git", "https://someone.github.io/attnax/x.html", "https://colab.research.google.com/github/someone/attnax/blob"):
        assert strange(f"see [it]({bad})") == [bad]
    assert strange(f"{repository}/blob/main/x {site}/x.html 'attnax @ git+{repository}'") == []
    for bad in ("attnax", "'attnax[demo]'", "-U attnax", "'attnax==0.5'", "attnax matplotlib",
                "matplotlib attnax[pretrained]", "'attnax[{extra}]'"):
        assert from_the_index(f"`pip install {bad}`"), bad
    for good in (f"'attnax[demo] @ git+{repository}'",
                 f"'attnax @ git+{repository}' matplotlib", "'.[demo]' && attnax demo", "-e '.[dev]'"):
        assert not from_the_index(f"pip install {good}"), good


def test_metadata_names_the_repository():
    """What the messages read is what settings.ini says."""
    urls = dict(u.split(", ", 1) for u in metadata("attnax").get_all("Project-URL"))
    assert (urls["Source"], urls["Documentation"]) == (repository, site), "stale metadata: pip install -e . once more"


def test_setup_takes_them_from_settings():
    said = subprocess.run([sys.executable, "setup.py", "--url"], cwd=root, capture_output=True, text=True)
    assert said.stdout.split()[-1:] == [repository], said.stderr
