"""A profile of the kernels that one call runs, which reveals a silent fall-back to another backend."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.autograd.profiler import profile

from attnbench.device_names import device_type
from attnbench.measure.call import DirectionCall

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload


MEMORY = "[memory]"  # the profiler's name for an allocation


@dataclass(frozen=True)
class ProfiledEvent:
    """One event of a profile: an operator, a device kernel, or a memory allocation (named `[memory]`).

    `bytes` is the size of an allocation. It is negative if memory is freed, and 0 for other events.
    """

    name: str
    start_ns: int
    device: str  # "cpu" or "cuda"
    bytes: int = 0


def profiled(action: Callable[[], Any], *, device: str, memory: bool = False) -> tuple[Any, list[ProfiledEvent]]:
    """Run `action` once under torch's profiler, and return its result and the events sorted by start time.

    This function uses the lower-level `torch.autograd.profiler`, because importing `torch.profiler` also imports
    torch's compiler, which takes several seconds.
    """
    on_cuda = device_type(device) == "cuda"
    with profile(use_device="cuda" if on_cuda else None, profile_memory=memory) as profiler:
        result = action()
        if on_cuda:
            torch.cuda.synchronize()
    recorded = profiler.kineto_results.events()
    events = [
        ProfiledEvent(
            event.name(),
            event.start_ns(),
            "cuda" if event.device_type() == torch._C._autograd.DeviceType.CUDA else "cpu",  # noqa: SLF001
            event.nbytes() if event.name() == MEMORY else 0,
        )
        for event in recorded
    ]
    return result, sorted(events, key=lambda event: event.start_ns)


MAX_NAMES = 100  # maximum number of kernel or operator names stored for each call


class KnownNames(NamedTuple):
    """A pattern for the names of a backend's kernels on CUDA or operators on a CPU, and where the names come from."""

    backend: str
    pattern: str
    source: str


# A call belongs to the first of these backends whose pattern matches any of the call's names. Names of templates start
# with the return type and namespaces (`void pytorch_flash::flash_fwd_kernel<...>`), and other names are bare.
KNOWN_NAMES = (
    KnownNames(
        "cudnn",
        r"cudnn_attention|cudnn.*(sdpa|fort_native)|fort_native_sdpa",
        "ATen's operators; cuDNN's engines, as in traces: cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_*",
    ),
    KnownNames(
        "flashinfer",
        r"flashinfer::|Batch(Prefill|Decode)With(Ragged|Paged)KVCache",
        "flashinfer: include/flashinfer/attention/{prefill,decode}.cuh and hopper/prefill_sm90.cuh",
    ),
    KnownNames(
        "sage",
        r"qk_int8?_sv_f(8|16)_|quant_per_block_int8_kernel",
        "SageAttention 2: csrc/qattn; SageAttention 1: quant_per_block.py, which runs before its kernel _attn_fwd",
    ),
    KnownNames(
        "flash",
        r"flash_attention|flash_(fwd|bwd)|flashattn|FlashAttn|FlashAttention(Forward|Backward)",
        "ATen's operators; flash-attention: csrc/flash_attn/src (2), hopper/flash_{fwd,bwd}_kernel_sm90.h (3) and "
        "flash_attn/cute/flash_{fwd,bwd}_sm*.py (4)",
    ),
    KnownNames(
        "efficient",
        r"efficient_attention|fmha_cutlass|AttentionKernel|AttentionBackwardKernel|Sm\d+Fmha",
        "ATen's operators, and its mem_eff_attention/kernels, which xformers' cutlass shares; CUTLASS: "
        "examples/77_blackwell_fmha",
    ),
    KnownNames(
        "flex",
        r"flex_attention|flex_(fwd|bwd)|triton_(tem|flex)_fused_flex",
        "torch/_inductor/kernel/flex: kernels are named triton_tem_fused_flex_attention_* after the operator",
    ),
    KnownNames("math", r"_scaled_dot_product_attention_math", "ATen's operators"),
    KnownNames(
        "triton",
        r"^triton_|_triton|^_?attn_(fwd|bwd)|^_fwd_kernel_splitK|^_splitK_reduce"
        r"|^(forward|grad_key_value|grad_query|gradients|row_\w+)_kernel$",
        "torch/_inductor; Triton's tutorial 06; xformers: ops/fmha/_triton/splitk_kernels.py; triton-flash's kernels",
    ),
    KnownNames(
        "composed",
        r"softmax|SoftMax|aten::(bmm|matmul|exp)|gemm|gemv|cutlass|nvjet_",
        "ATen: native/cuda/SoftMax.cu and PersistentSoftmax.cuh; cuBLAS's kernels, as in traces: nvjet_hsh_* and "
        "nvjet_tst_* since Hopper, ampere_*gemm*, cutlass_80_tensorop_*",
    ),
)
# Events that do not compute anything: launches, copies, and operators that only create views or allocate memory.
BOOKKEEPING = re.compile(
    r"^(autograd::engine|Memcpy|Memset|cuda[A-Z]|cuLaunch|aten::(as_strided|transpose|view|expand|reshape|_reshape_alias|_unsafe_view|"
    r"empty|empty_like|empty_strided|resolve_conj|resolve_neg|unsqueeze|squeeze|select|slice|permute|t|detach|alias|to|"
    r"_to_copy|result_type|lift_fresh|item|_local_scalar_dense|is_nonzero|unbind|narrow|split|chunk|numpy_T|matrix_H)$)"
)


@dataclass(frozen=True)
class Kernels:
    """The kernels of one call.

    - `names`: device kernels (CUDA) or operators (CPU), in order of first appearance; None if the profiler failed
    - `backend`: the backend to which the names belong: `flash`, `efficient`, `cudnn`, `flashinfer`, `sage`, `flex`,
      `math` (torch's fall-back), `triton` or `composed` (plain operators such as matmul and softmax); None if no name
      is recognised
    - `reason`: why `names` is None
    """

    names: tuple[str, ...] | None
    backend: str | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"names": self.names and list(self.names), "backend": self.backend, "reason": self.reason}


def kernels_of(call: Timed, inputs: Inputs, workload: Workload, device: str) -> Kernels:
    """Profile one call in the workload's direction and return its kernels.

    If the profiler fails, the error is returned as `reason` instead of being raised.
    """
    try:
        _, events = profiled(DirectionCall(call, inputs, workload).prepare()[0], device=device)
    except Exception as error:  # noqa: BLE001 - the cell is already timed, and the times stay valid if the profiler fails
        return Kernels(None, reason=f"the profiler failed: {type(error).__name__}: {error}")
    return describe(events, device)


def describe(events: list[ProfiledEvent], device: str) -> Kernels:
    """Return the kernels found in the events of a profile."""
    where = device_type(device)
    names = dict.fromkeys(event.name for event in events if event.device == where and event.name != MEMORY)
    kept = tuple(name for name in names if not BOOKKEEPING.match(name))[:MAX_NAMES]
    if not kept:
        return Kernels(None, reason=f"the profiler recorded no {'kernel' if where == 'cuda' else 'operator'}")
    return Kernels(kept, backend_of(kept))


def backend_of(names: tuple[str, ...]) -> str | None:
    """Return the backend to which these kernel or operator names belong, or None if no name is recognised."""
    found = (known.backend for known in KNOWN_NAMES if any(re.search(known.pattern, name) for name in names))
    return next(found, None)
