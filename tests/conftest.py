"""Options, the compiler and the closing report of the suite."""
import gc
import os
import sys
from pathlib import Path

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)  # before anything is computed: a mesh needs several

# Programs that run a few times on a few numbers: LLVM's optimizations would take half of the time or more, and are no part of
# JAX or attnax. XLA's newer way to write fused loops for a CPU takes as much again up to JAX 0.10; later ones have no other
users_flags = os.environ.get("XLA_FLAGS", "")
# A program is compiled in one part: cutting it into several, for cores that are busy anyway, costs a tenth of the time
optimized_flags = f"{users_flags} --xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__ < (0, 11): optimized_flags += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{optimized_flags} --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

# Programs are lowered without the line of Python that each of their operations comes from
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
jax.config.update("jax_traceback_in_locations_limit", 0)

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from exec_nbs import reuse_contexts, store_uncompressed  # noqa: E402

reuse_contexts()
store_uncompressed()

notes: list[str] = []  # what the tests want to have said at the end, skipped cells above all


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="write down how long each notebook took, in tests/seconds.txt")


def pytest_collection_modifyitems(items):
    """The notebooks are waited for last: they run beside all other tests."""
    items.sort(key=lambda item: item.path.name == "test_notebooks.py")


def pytest_collection_finish():
    """What was imported is not searched for garbage again, and what is traced is in circles only seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def runs(request, tmp_path_factory):
    """The notebooks, running: a function that waits for one, and gives what `execute` returned."""
    from test_notebooks import start_all
    yield from start_all(request, tmp_path_factory)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel that users get."""
    from wheels import build
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def home(wheel, tmp_path_factory):
    """An environment with the wheel and what it requires, and nothing else."""
    from wheels import home
    return home(tmp_path_factory.mktemp("home"), wheel)


def pytest_terminal_summary(terminalreporter):
    if notes:
        terminalreporter.section("notebooks")
        for line in notes: terminalreporter.write_line(line)
