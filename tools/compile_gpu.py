"""Compile the GPU kernels with the compiler of NVIDIA's GPUs on a machine that has none, and table what they need.

XLA's plugin for CUDA compiles for a device that is only described: the kernels go through its own Triton, LLVM and ptxas, and
what does not fit the device fails here as it would there. What runs, and how fast, only a device can say.

    pip install --no-deps jax-cuda12-plugin==X jax-cuda12-pjrt==X nvidia-cuda-nvcc-cu12     # X: the version of jax
    python tools/compile_gpu.py                               # bfloat16, widths 64 to 256, causal, H100
    python tools/compile_gpu.py --gpu a100 l4 --widths 64 128 --mods all

Per kernel: registers of a thread, bytes that a thread spills for want of registers, bytes of shared memory of a block, and
products of matrices in its program (wgmma: on Hopper's own units; mma: on tensor cores).
"""
import argparse
import importlib.util
import os
import re
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# nvJitLink would assemble inside of XLA, out of sight; it is ptxas as a library
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_enable_libnvjitlink=false"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import AbstractDevice, AbstractMesh, SingleDeviceSharding, use_abstract_mesh  # noqa: E402


class Gpu(NamedTuple):
    """A device by its data sheet."""
    name: str         # As the driver says it
    capability: tuple # (major, minor)
    cores: int        # Streaming multiprocessors
    per_core: int     # Bytes of shared memory of a core
    per_block: int    # Most of them that a block may have
    own: bool = False # Whether there are instructions of this generation alone, such as wgmma

    def described(self) -> str:
        """The text of XLA's `GpuTargetConfigProto`."""
        (major, minor), own = self.capability, "feature_extension: ACCELERATED_FEATURES" if self.own else ""
        return f"""platform_name: "CUDA" device_description_str: "{self.name}" dnn_version_info {{ major: 9 minor: 10 }}
            gpu_device_info {{ cuda_compute_capability {{ major: {major} minor: {minor} {own} }} core_count: {self.cores}
            shared_memory_per_core: {self.per_core} shared_memory_per_block_optin: {self.per_block}
            shared_memory_per_block: 49152 registers_per_core_limit: 65536 registers_per_block_limit: 65536
            threads_per_block_limit: 1024 threads_per_core_limit: 2048 threads_per_warp: 32 fpus_per_core: 128
            block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
            memory_bandwidth: 2000000000000 l2_cache_size: 41943040 clock_rate_ghz: 1.5 device_memory_size: 40000000000 }}"""


GPUS = {"h100": Gpu("NVIDIA H100 80GB HBM3", (9, 0), 132, 233472, 232448, own=True),
        "a100": Gpu("NVIDIA A100-SXM4-80GB", (8, 0), 108, 167936, 166912),
        "l4": Gpu("NVIDIA L4", (8, 9), 58, 102400, 101376)}
WHEELS = ("jax-cuda12-plugin", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12")


class Kernel(NamedTuple):
    """What one kernel needs."""
    name: str
    registers: int  # Of a thread
    spilled: int    # Bytes of a thread
    shared: int     # Bytes of a block, those asked for at the launch included
    wgmma: int      # Instructions in the program
    mma: int


def lacking() -> list[str]:
    """The packages that are missing, or that do not fit this version of JAX."""
    def fits(name):
        try: return not name.startswith("jax") or version(name) == jax.__version__
        except PackageNotFoundError: return False
    return [name for name in WHEELS if not fits(name) or not _ptxas() and "nvcc" in name]


def _ptxas() -> Path | None:
    """NVIDIA's assembler, from its wheel."""
    spec = importlib.util.find_spec("nvidia")
    places = spec.submodule_search_locations if spec else []
    return next((p for place in places for p in Path(place).glob("cuda_nvcc/bin/ptxas")), None)


# Stands in for the assembler: the same call, verbose, with a copy of what goes in and of what is said
_WITNESS = """#!{python} -SE
import os, shutil, subprocess, sys
args = sys.argv[1:]
if "-o" not in args: os.execv({real!r}, [{real!r}, *args])
done = subprocess.run([{real!r}, "-v", *args], capture_output=True, text=True)
sys.stdout.write(done.stdout); sys.stderr.write(done.stderr)
out = args[args.index("-o") + 1]
note = os.path.join({notes!r}, str(os.getpid()))
shutil.copy(next(a for a in args if a[0] != "-" and a != out and os.path.exists(a)), note + ".ptx")
with open(note + ".log", "w") as f: f.write(done.stdout + done.stderr)
sys.exit(done.returncode)
"""


def _toolkit(folder: Path) -> Path:
    """A CUDA toolkit whose assembler takes notes."""
    real, cuda, notes = _ptxas(), folder / "cuda", folder / "notes"
    (cuda / "bin").mkdir(parents=True); notes.mkdir()
    for name in ("nvvm", "include"):
        if (real.parents[1] / name).exists(): (cuda / name).symlink_to(real.parents[1] / name)
    script = cuda / "bin" / "ptxas"
    script.write_text(_WITNESS.format(python=sys.executable, real=str(real), notes=str(notes)))
    script.chmod(0o755)
    return cuda


def _kernels(folder: Path, wanted: str) -> list[Kernel]:
    """What the notes say of the kernels with such a name."""
    asked = {}  # shared memory that XLA asks for at the launch
    for path in folder.glob("dump/*thunk_sequence.txt"):
        asked |= {n: int(size) for n, size in re.findall(r"\] (\S+) grid: .*?shared_memory: (\d+)", path.read_text())}
    found = []
    for log in sorted(folder.glob("notes/*.log"), key=lambda p: p.stat().st_mtime):
        said, ptx = log.read_text(), log.with_suffix(".ptx").read_text()
        for name in re.findall(r"\.entry (\w+)", ptx):
            if not re.search(wanted, name): continue
            part = re.search(rf"Compiling entry function '{name}'.*?(?=Compiling entry function|\Z)", said, re.S)[0]
            number = lambda pattern, part=part: int((re.search(pattern, part) or [0, 0])[1])
            found.append(Kernel(
                name, number(r"Used (\d+) registers"), number(r"(\d+) bytes spill stores"),
                number(r"(\d+) bytes smem") + asked.get(name, 0), ptx.count("wgmma.mma_async"), ptx.count("mma.sync")))
    return found


def argument(shape, dtype, gpu: str) -> jax.ShapeDtypeStruct:
    """An array that lies on the described device."""
    device = topologies.get_topology_desc(platform="cuda", target_config=GPUS[gpu].described(), topology="1x1x1").devices[0]
    return jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=SingleDeviceSharding(device))


def compiled_for(gpu: str, fn, *args, wanted: str = "attnax") -> list[Kernel]:
    """Compile a function of `argument`s for a device; its kernels. Raises what the compiler raises."""
    it = GPUS[gpu]
    with tempfile.TemporaryDirectory() as place:
        cuda = _toolkit(Path(place))
        mesh = AbstractMesh((), (), abstract_device=AbstractDevice(it.name, it.cores, "gpu"))
        with use_abstract_mesh(mesh): lowered = jax.jit(fn).trace(*args).lower(lowering_platforms=("cuda",))
        lowered.compile(compiler_options={
            "xla_gpu_cuda_data_dir": str(cuda), "xla_dump_to": f"{place}/dump", "xla_gpu_autotune_level": 0})
        return _kernels(Path(place), wanted)


# ---- attnax's attention

def mods(length: int) -> dict:
    """The bundled mods, on so many positions. Inside of a traced function, whose compiler must not take arrays for constants."""
    import attnax as ax
    def held(x): return jax.lax.optimization_barrier(x)
    return {
        "none": None, "causal": ax.causal_mod(), "window": ax.sliding_window_mod(256), "softcap": ax.softcap_mod(30.0),
        "alibi": ax.compose_score_mods(ax.alibi_mod(8), ax.causal_mod()), "prefix": ax.prefix_lm_mod(held(jnp.array([100]))),
        "documents": ax.compose_score_mods(ax.document_mask_mod(held(jnp.arange(length)[None] // 300)), ax.causal_mod()),
        "bias": ax.additive_bias_mod(held(jnp.zeros((1, 8, length, length)))),
        "T5": ax.relative_position_bias_mod(held(jnp.zeros((32, 8))))}


def attention(gpu: str, width: int, dtype, mod: str = "causal", length: int = 2048, **kw) -> list[Kernel]:
    """The kernels of `pallas_flash_attention`, forward and backward."""
    from attnax import pallas_flash_attention
    def both(q, k, v, d_out):
        ours = mods(length)[mod]
        out, pull = jax.vjp(lambda *a: pallas_flash_attention(*a, score_mod=ours, on_fallback="error", **kw), q, k, v)
        return out, pull(d_out)
    return compiled_for(gpu, both, *[argument((1, 8, length, width), dtype, gpu)] * 4)


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--gpu", nargs="+", choices=GPUS, default=["h100"])
    ask.add_argument("--widths", nargs="+", type=int, default=[64, 128, 256])
    ask.add_argument("--dtype", default="bfloat16")
    ask.add_argument("--mods", nargs="+", default=["causal"], help="names, or `all`")
    args = ask.parse_args()
    if lacking(): print(f"nothing compiled: {', '.join(lacking())} of jax {jax.__version__} are not installed"); return 0
    chosen, failed = [*mods(16)] if args.mods == ["all"] else args.mods, 0
    print("| GPU | width | mod | kernel | registers | spilled B | shared B | wgmma | mma |\n" + "|---" * 9 + "|", flush=True)
    for gpu in args.gpu:
        for width in args.widths:
            for mod in chosen:
                try: found = attention(gpu, width, args.dtype, mod)
                except (jax.errors.JaxRuntimeError, NotImplementedError) as e:
                    failed += 1
                    print(f"| {gpu} | {width} | {mod} | does not compile: {str(e).splitlines()[0][:110]} |" + " |" * 5)
                    continue
                for k in found:
                    row = gpu, width, mod, k.name.removeprefix("attnax_gpu_"), *k[1:]
                    print("| " + " | ".join(map(str, row)) + " |", flush=True)
    return int(failed > 0)


if __name__ == "__main__": sys.exit(main())
