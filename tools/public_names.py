"""The names that users may import: `public_names.py` prints them, `--write` makes them the list that the tests hold to.

A package shows what its `__init__` has, modules apart; a module shows its `__all__`.
"""
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

root = Path(__file__).resolve().parent.parent
listed = root / "tests" / "public_names.txt"
modules = ("attnax", "attnax.kernels", "attnax.kernels.score_mods")


def public_names() -> list[str]:
    names = []
    for m in map(importlib.import_module, modules):
        own = dir(m) if hasattr(m, "__path__") else m.__all__
        names += sorted(f"{m.__name__}.{n}" for n in own if not n.startswith("_") and not isinstance(getattr(m, n), ModuleType))
    return names


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.path.insert(0, str(root))
    text = "\n".join(public_names()) + "\n"
    if "--write" in sys.argv: listed.write_text(text, encoding="utf-8")
    else: print(text, end="")
