"""Annotations are true: a type checker finds nothing to say of these parts of the package, and the values that go through
them in a few calls over the whole surface are what they are annotated as."""
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from notebooks import root
from test_readme import environment

read = ["attnax"]                                                  # by the checker
checked = ["attnax/layers", "attnax/models", "attnax/audio.py"]    # while they run; to grow to all of `attnax`
calls = Path(__file__).with_name("typed_calls.py")


@pytest.mark.skipif(importlib.util.find_spec("basedpyright") is None, reason="basedpyright, of the extra `dev`, is not installed")
def test_checker(tmp_path):
    """No error under pyright's basic rules; and it does look: a file with a mistake has one."""
    (tmp_path / "wrong.py").write_text("from attnax.layers.norms import RMSNorm\nRMSNorm('wide', rngs=None)\n", encoding="utf-8")
    options = {"typeCheckingMode": "basic", "extraPaths": [str(root)], "include": [str(root / part) for part in read] + ["."]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(options), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(tmp_path)]
    said = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout)
    errors = [d for d in said["generalDiagnostics"] if d["severity"] == "error"]
    ours = [d for d in errors if Path(d["file"]).name != "wrong.py"]
    assert not ours, "\n".join(f"{d['file']}:{d['range']['start']['line'] + 1}: {d['message']}" for d in ours)
    assert said["summary"]["filesAnalyzed"] > 50 and len(errors) > len(ours)


@pytest.mark.skipif(importlib.util.find_spec("beartype") is None, reason="beartype, of the extra `dev`, is not installed")
def test_values():
    """Arguments and results of every function on the way are what they are annotated as; and it does look."""
    packages = [part.removesuffix(".py").replace("/", ".") for part in checked]
    said = subprocess.run([sys.executable, str(calls), *packages], capture_output=True, text=True,
                          env=environment())
    assert said.returncode == 0, said.stderr[-3000:]
    assert said.stdout.split() == ["layers", "caches", "models", "sound", "wrong"]
