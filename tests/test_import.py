"""What is imported, and what is described, starts no device: processes may still be joined and devices counted."""
import subprocess
import sys

from test_readme import environment

SCRIPT = """
import importlib, pkgutil
import attnax

for module in pkgutil.walk_packages(attnax.__path__, "attnax."):
    if not module.name.endswith("__main__"): importlib.import_module(module.name)

from attnax.layers import AxialRope, MultiRope, RopeScaling, TransformerConfig
AxialRope(grid=(2, 2)), MultiRope(sections=(2, 2, 4))
scaled = [RopeScaling(kind="linear", factor=2.0), RopeScaling(kind="llama3", factor=8.0),
          RopeScaling(kind="yarn", factor=4.0), RopeScaling(kind="dynamic", factor=2.0),
          RopeScaling(kind="longrope", factor=2.0, short_factors=(1.0,) * 8, long_factors=(2.0,) * 8)]
for kind in ("rope", "learned", "sinusoidal", "alibi", "none"):
    for scaling in scaled if kind == "rope" else [None]:
        TransformerConfig(vocab_size=8, d_model=64, num_heads=4, num_layers=1, d_ff=8, max_len=8,
                          pos_emb_type=kind, rope_scaling=scaling)

import jax
jax.config.update("jax_num_cpu_devices", 3)   # which JAX refuses once a device is there
print(len(jax.devices()))
"""


def test_no_device():
    """Every module imported and configs of every kind made: JAX still takes a number of devices, and has that many."""
    said = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment())
    assert said.returncode == 0, said.stderr[-3000:]
    assert said.stdout.split() == ["3"]
