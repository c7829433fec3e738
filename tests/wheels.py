"""How the tests build the wheel, once for all of them, and call programs as a user's terminal does."""
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import conftest
from notebooks import root

LEFT_OUT = ".git .venv* .*_cache .hypothesis _docs _proc _site_src build dist *.egg-info __pycache__".split()


def run(*cmd, cwd, **kwargs):
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": conftest.users_flags}
    return subprocess.run(list(map(str, cmd)), cwd=cwd, env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, **kwargs)


def build(folder: Path) -> Path:
    """The wheel, built from the source distribution as an index would get it, from a copy of the tree."""
    shutil.copytree(root, folder / "src", ignore=shutil.ignore_patterns(*LEFT_OUT))
    r = run(sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "src", cwd=folder)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]
    return next((folder / "dist").glob("*.whl"))


def python_of(env: Path) -> Path: return env / ("Scripts" if os.name == "nt" else "bin") / "python"


def packages_of(env: Path) -> Path: return Path(sysconfig.get_path("purelib", "venv", {"base": str(env)}))


def home(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel and what it requires."""
    env = folder / "env"
    venv.create(env, with_pip=True)
    r = run(python_of(env), "-m", "pip", "install", "-q", "--no-compile", wheel, cwd=folder)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]
    r = run(python_of(env), "-c", "import jax, flax.nnx, optax", cwd=folder)  # compiled once for all who run it
    assert r.returncode == 0, r.stderr[-3000:]
    return env


def without_attnax(env: Path, folder: Path) -> Path:
    """Another environment with the same packages, attnax left out: links to the same files."""
    other = folder / "env"
    venv.create(other)
    shutil.copytree(packages_of(env), packages_of(other), copy_function=os.link, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("attnax", "attnax-*"))
    return other
