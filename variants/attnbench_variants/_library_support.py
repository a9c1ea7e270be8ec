"""Descriptions of what attention libraries support, and the reasons why a library can't run a workload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from attnbench.machine.triton_compiler import triton_compiler_problem

if TYPE_CHECKING:
    from attnbench import Workload


# Install commands for packages that `pip install PACKAGE` can't install.
INSTALL_COMMANDS = {"flash-attn-3": "pip install ./hopper in a clone of the flash-attention repository"}


@dataclass(frozen=True)
class Abilities:
    """The features that one library's attention supports on a CUDA GPU.

    `library` is the module to import, and `package` is the name to install with pip. `masks` holds the supported kinds
    of mask; `causal` means a bottom-right aligned mask. `min_capability` and `max_capability` are the lowest and the
    highest supported compute capability; `max_capability` is None if there is no upper limit.
    """

    library: str
    package: str
    masks: frozenset[str]
    dtypes: tuple[str, ...] = ("float16", "bfloat16")
    backward: bool = True
    softcap: bool = False
    alibi: bool = False
    dropout: bool = False
    other_value_dim: bool = False
    min_head_dim: int = 8
    max_head_dim: int = 256
    head_dim_step: int = 8
    min_capability: tuple[int, int] = (8, 0)
    max_capability: tuple[int, int] | None = None

    def lacking(self, workload: Workload, device: str) -> str | None:
        """Return why the library can't run `workload` on `device`, or None if it can.

        A missing package is reported before anything else, because users can install it.
        """
        if not installed(self.library):
            return missing(self.package)
        if device == "cpu":
            return f"{self.library} has no kernel for the CPU: it needs a CUDA GPU"
        return next(self._refusals(workload), None) or self._too_old_or_new(device)

    def _refusals(self, workload: Workload) -> Iterator[str]:
        from attnbench_variants._visible import simplest_kind

        w, name = workload, self.library
        kind = simplest_kind(w)
        if kind not in self.masks:
            yield f"{name} does not support the mask {w.mask}, only {', '.join(sorted(self.masks))}"
        if w.dtype not in self.dtypes:
            yield f"{name} supports {' and '.join(self.dtypes)}, not {w.dtype}"
        if w.needs_gradient and not self.backward:
            yield f"{name} has no backward pass"
        for wanted, able, what in (
            (w.softcap is not None, self.softcap, "has no softcap"),
            (w.alibi, self.alibi, "has no ALiBi"),
            (w.dropout > 0, self.dropout, "has no dropout"),
            (w.head_dim_v != w.head_dim, self.other_value_dim, "needs head_dim_v to equal head_dim"),
        ):
            if wanted and not able:
                yield f"{name} {what}"
        for width in (w.head_dim, w.head_dim_v):
            if not self.min_head_dim <= width <= self.max_head_dim or width % self.head_dim_step:
                yield (
                    f"{name} supports a head_dim of {self.min_head_dim} to {self.max_head_dim} "
                    f"in steps of {self.head_dim_step}, not {width}"
                )
        if 0 in (w.batch, w.seq_q, w.seq_k):
            yield f"{name} does not support an empty batch or sequence"

    def _too_old_or_new(self, device: str) -> str | None:
        import torch

        if reason := lacking_gpu():
            return reason
        capability = torch.cuda.get_device_capability(device)
        if capability < self.min_capability or (self.max_capability is not None and capability > self.max_capability):
            wanted = ".".join(map(str, self.min_capability))
            wanted += " or later" if self.max_capability is None else f" to {'.'.join(map(str, self.max_capability))}"
            found = ".".join(map(str, capability))
            return f"{self.library} needs compute capability {wanted}, but this GPU has {found}"
        return None


def lacking_gpu() -> str | None:
    """Return a reason to refuse CUDA workloads if torch finds no GPU, or None if it finds one."""
    import torch

    return None if torch.cuda.is_available() else "needs a CUDA GPU, but torch finds none"


def lacking_triton() -> str | None:
    """Return a reason to refuse CUDA workloads if Triton is missing or can't launch kernels, or None if it can."""
    return triton_compiler_problem() if installed("triton") else missing("triton")


def imprecise_alibi(workload: Workload) -> str | None:
    """Return a reason to refuse ALiBi if a bias tensor in the workload's dtype would be imprecise, or None."""
    if not workload.alibi or workload.dtype == "float32":
        return None
    return f"ALiBi would be passed as a bias tensor in {workload.dtype}, which is not precise enough"


def missing(package: str) -> str:
    """Return the message for a missing package, including the command that installs the package.

    `package` may include extras, as in `transformer-engine[pytorch]`.
    """
    command = INSTALL_COMMANDS.get(package, f"pip install {package}")
    return f"needs the package {package.split('[', maxsplit=1)[0]} ({command})"


def installed(module: str) -> bool:
    """Return whether a module can be found. The module is not imported, but its parent packages are."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
