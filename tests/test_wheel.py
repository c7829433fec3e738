"""What users get: the wheel, in an empty environment with nothing but its own requirements."""
import zipfile

from notebooks import root
from wheels import python_of, run

attend = """
import attnax, jax, jax.numpy as jnp
q = jax.random.normal(jax.random.key(0), (1, 4, 8, 16))
k = jax.random.normal(jax.random.key(1), (1, 2, 8, 16))
out = attnax.memory_efficient_attention(q, k, k, score_mod=attnax.causal_mod())
assert out.shape == q.shape and jnp.allclose(out, attnax.standard_attention(q, k, k, score_mod=attnax.causal_mod()), atol=1e-5)
assert jnp.allclose(out[0, :2, 0], k[0, 0, 0], atol=1e-6)  # the first query sees only the first key
print(attnax.__file__)
"""


def test_wheel_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"attnax/py.typed", "attnax/kernels/score_mods.py", "attnax/data/help.json"} <= set(names)
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert {n.split("/")[0] for n in names} == {"attnax", wheel.name.split("-py3")[0] + ".dist-info"}
    ours = {p.relative_to(root).as_posix() for p in (root / "attnax").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {n for n in names if n.startswith("attnax/")} == ours


def test_attention_runs(home, tmp_path):
    r = run(python_of(home), "-c", attend, cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    assert str(home) in r.stdout, "another attnax was imported"


def test_help_is_in_it(home, tmp_path):
    """What `help` says comes from a file: the wheel carries it, and imports give it out."""
    look = "import attnax; print(attnax.MultiHeadAttention.__doc__)"
    r = run(python_of(home), "-c", look, cwd=tmp_path)
    assert "\nArgs:\n    rngs (nnx.Rngs): " in r.stdout, r.stderr


def test_nothing_else_is_installed(home, tmp_path):
    names = "nbdev fastcore execnb IPython matplotlib safetensors sklearn pytest smalldocs".split()
    look = f"from importlib.util import find_spec; print([m for m in {names} if find_spec(m)])"
    r = run(python_of(home), "-c", look, cwd=tmp_path)
    assert r.stdout.strip() == "[]", r.stdout + r.stderr


def test_command(home, tmp_path):
    r = run(python_of(home).with_name("attnax"), "--help", cwd=tmp_path)
    assert r.returncode == 0 and "demo" in r.stdout, r.stdout + r.stderr
    assert run(python_of(home), "-m", "attnax", "--help", cwd=tmp_path).returncode == 0


def test_demo_names_its_extra(home, tmp_path):
    """Without the extra the demo says so in one line, and leaves nothing behind."""
    r = run(python_of(home).with_name("attnax"), "demo", cwd=tmp_path, timeout=120)
    said = r.stderr.strip().splitlines()
    assert r.returncode != 0 and len(said) == 1 and "attnax[demo]" in said[0], r.stdout + r.stderr
    assert list(tmp_path.iterdir()) == []
