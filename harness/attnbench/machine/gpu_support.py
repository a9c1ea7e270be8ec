"""Whether the installed torch can use this machine's GPUs, found out without importing torch."""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from attnbench.machine.finding import Problem
from attnbench.machine.gpus import VISIBLE, GpuList, list_gpus
from attnbench.machine.torch_choice import MINIMUM_DRIVER

INSTALL = "https://pytorch.org/get-started/locally, or remove .venv and run `make bench`, which chooses one"


@dataclass(frozen=True)
class TorchBuild:
    """The installed torch: its version, and the version of CUDA that it was built for (None for a CPU build)."""

    version: str
    cuda: str | None

    @property
    def cuda_major(self) -> int | None:
        """The major version of CUDA, or None for a CPU build."""
        return None if self.cuda is None else int(self.cuda.partition(".")[0])


def installed_torch(file: Path | None = None) -> TorchBuild | None:
    """Return the installed torch, or None if there is none. `file` is its version.py, which tests replace."""
    if file is None:
        spec = find_spec("torch")
        if spec is None or spec.origin is None:
            return None
        file = Path(spec.origin).with_name("version.py")
    values: dict[str, object] = {}
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(statement.value, ast.Constant):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            values[ast.unparse(target)] = statement.value.value
    cuda = values.get("cuda")
    return TorchBuild(str(values.get("__version__")), None if cuda is None else str(cuda))


def torch_problem(listed: GpuList, torch: TorchBuild | None) -> Problem | None:
    """Return why torch can't use GPUs with this driver, and the remedy, or None if it can or torch is not installed."""
    if torch is None:
        return None
    if torch.cuda_major is None:
        return Problem(f"torch {torch.version} is not built for CUDA", f"install a CUDA build ({INSTALL})")
    minimum = MINIMUM_DRIVER.get(torch.cuda_major)
    older = minimum is not None and listed.driver is not None and int(listed.driver.partition(".")[0]) < minimum
    if not older or (listed.driver_cuda is not None and listed.driver_cuda[0] >= torch.cuda_major):
        return None
    return Problem(
        f"torch {torch.version} is built for CUDA {torch.cuda}, which needs driver {minimum} or later, but the driver "
        f"is {listed.driver}",
        f"update the driver, or install a build for an older CUDA ({INSTALL})",
    )


def gpu_problem(
    root: Path = Path("/"), listed: GpuList | None = None, torch: TorchBuild | None = None
) -> Problem | None:
    """Return why this machine's GPUs can't be used, and the remedy. Return None if they can, or if there is no GPU.

    `root` is the folder that contains `dev`; tests replace it and the other arguments.
    """
    listed = list_gpus() if listed is None else listed
    nodes = sorted(node.name for node in (root / "dev").glob("nvidia[0-9]*"))
    if not (nodes or listed.gpus or listed.unusable):
        return None
    if listed.visible:
        return torch_problem(listed, installed_torch() if torch is None else torch)
    what = f"this machine has NVIDIA GPUs ({', '.join(nodes)})" if nodes else "this machine has NVIDIA GPUs"
    why, remedy = _why_none(listed)
    return Problem(f"{what}, but none can be used: {why}", remedy)


def _why_none(listed: GpuList) -> tuple[str, str]:
    """Return why no GPU can be used, and what would help."""
    if listed.problem is not None:
        return listed.problem, "see what `nvidia-smi` says; in a container, start it with --gpus all"
    if listed.gpus:
        return f"{VISIBLE}={os.environ.get(VISIBLE)!r} hides all of them", "unset or correct it"
    reasons = "; ".join(f"GPU {index}: {reason}" for index, reason in listed.unusable)
    return reasons or "NVML lists none", "see what `nvidia-smi` says; in a Slurm job, ask for a GPU with --gres=gpu:1"
