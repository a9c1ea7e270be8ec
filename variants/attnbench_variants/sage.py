"""SageAttention, which computes the scores from 8-bit queries and keys."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from attnbench import Inputs, Variant, Workload, hookimpl
from attnbench_variants._library_support import Abilities, lacking_triton

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

ABILITIES = Abilities(
    library="sageattention",
    package="sageattention",
    masks=frozenset({"none", "causal"}),
    backward=False,
    min_head_dim=64,
    max_head_dim=128,
    head_dim_step=32,
)
KEY_BLOCK = 64  # version 1 of sageattention processes the keys in blocks of this size


class Sage(Variant):
    """sageattention.sageattn (Zhang et al., 2024, arXiv:2410.02367) on (B, H, S, D) tensors; forward pass only."""

    name = "sage"
    packages = (ABILITIES.package,)
    tier = "quantised"
    alignment_bytes = 16  # the kernels that quantise the inputs load 16 bytes at a time

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return what SageAttention lacks for the workload, or None if the workload is supported."""
        return ABILITIES.lacking(workload, device) or next(_refusals(workload), None) or lacking_triton()

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:  # noqa: ARG002 - part of the contract
        """Return the timed function.

        Versions before 2 change the keys in place, so with these versions, each call copies the keys.
        """
        from sageattention import sageattn

        from attnbench_variants._visible import simplest_kind

        causal = simplest_kind(workload) == "causal"
        scale = workload.effective_scale
        centres_in_place = _major_version() < 2

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            key = key.clone() if centres_in_place else key
            return sageattn(query, key, value, tensor_layout="HND", is_causal=causal, sm_scale=scale)

        return attend


def _refusals(workload: Workload) -> Iterator[str]:
    from attnbench_variants._visible import simplest_kind

    causal = simplest_kind(workload) == "causal"
    if causal and workload.seq_q != workload.seq_k:
        yield "sageattention supports a causal mask only if seq_q equals seq_k"
    if not causal and workload.seq_k % KEY_BLOCK and _major_version() < 2:
        yield (
            f"sageattention before version 2 pads its last block of {KEY_BLOCK} keys with keys whose score is 0, "
            f"so seq_k must be a multiple of {KEY_BLOCK}, not {workload.seq_k}"
        )


def _major_version() -> int:
    try:
        return int(version("sageattention").split(".")[0])
    except PackageNotFoundError:  # SageAttention 2 and later can be used from a build folder without being installed
        return 2


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the variant `sage`."""
    return [Sage()]
