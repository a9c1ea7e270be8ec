"""Print what attnbench depends on: the driver, GPUs, torch, Triton, a C compiler, and installed attention libraries."""

import importlib.util
import platform
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

DISTRIBUTIONS = (
    "attnbench", "torch", "triton", "numpy", "pandas", "pyarrow", "scipy", "matplotlib", "xformers", "flash-attn",
    "flash-attn-3", "flash-attn-4", "flashinfer-python", "transformer-engine", "sageattention", "nvidia-cudnn-cu13",
)  # fmt: skip
QUERY = "name,uuid,driver_version,compute_mode,memory.total,memory.used,clocks.sm,clocks.max.sm,temperature.gpu"


def main(device):
    """Print one fact per line. Return 1 if the device is `cuda` and torch can use no GPU, and 0 otherwise."""
    print(f"python      {sys.version.split()[0]} at {sys.executable}, {platform.platform()}")
    print(f"compiler    {shutil.which('gcc') or shutil.which('cc') or shutil.which('clang') or 'none found'}")
    print(f"nvcc        {shutil.which('nvcc') or 'not found'}")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    print(f"Python.h    {header if header.is_file() else f'missing: {header}'}")
    print(f"devices     {' '.join(sorted(map(str, Path('/dev').glob('nvidia*')))) or 'no /dev/nvidia*'}")
    print("packages    " + ", ".join(map(version, DISTRIBUTIONS)))
    print(f"nvidia-smi  {smi(f'--query-gpu={QUERY}', '--format=csv,noheader')}")
    print(f"processes   {smi('--query-compute-apps=pid,name,used_memory', '--format=csv,noheader') or 'none'}")
    if importlib.util.find_spec("torch") is None:
        print("torch       not installed: install a build for the driver's CUDA")
        return 1
    return torch_facts(device)


def torch_facts(device):
    """Print torch's build and its GPUs. Return 1 if the device is `cuda` and torch can use no GPU, and 0 otherwise."""
    import torch

    print(f"torch       {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        cache = getattr(found, "L2_cache_size", 0) / 2**20
        print(
            f"cuda:{index}      {found.name}, sm_{found.major}{found.minor}, {found.multi_processor_count} SMs, "
            f"{found.total_memory / 2**30:.1f} GiB, L2 {cache:.0f} MiB"
        )
    if device == "cpu" or torch.cuda.is_available():
        return 0
    print("torch can use no GPU: give --device cpu for a rehearsal, or install a build of torch for the driver's CUDA")
    return 1


def version(distribution):
    """Return a distribution's name and version, or its name with a dash if it is not installed."""
    try:
        return f"{distribution} {metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        return f"{distribution} -"


def smi(*arguments):
    """Return what nvidia-smi prints, or why there is no output."""
    path = shutil.which("nvidia-smi")
    if path is None:
        return "not found"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=10)
    return "; ".join((done.stdout or done.stderr).strip().splitlines())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
