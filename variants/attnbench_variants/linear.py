"""Linear attention, which replaces softmax with a kernel function. Its cost grows linearly with the sequence length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import Inputs, Variant, Workload, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

CHUNK = 128  # queries per step under a causal mask
EPSILON = 1e-6  # added to the denominator, which could otherwise be 0


class Linear(Variant):
    """Linear (not softmax) attention in float32: phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K)), where phi(x) = elu(x) + 1.

    The formula follows equations 5 to 9 of Katharopoulos et al., 2020, arXiv:2006.16236. Under a causal mask, queries
    are processed in chunks, and the sums over all earlier keys are carried from chunk to chunk.
    """

    name = "linear"
    exact = False
    default_on = ()  # not softmax attention, so the variant runs only if it is requested by name

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:  # noqa: ARG002 - the same on all devices
        """Return why linear attention can't represent the workload, or None if it can."""
        from attnbench_variants._visible import simplest_kind

        w, kind = workload, simplest_kind(workload)
        if kind not in ("none", "causal") or (kind == "causal" and w.seq_q != w.seq_k):
            return f"linear attention supports only the mask none and square causal masks, not {w.mask}"
        if w.softcap is not None or w.alibi or w.dropout or w.scale is not None:
            return "linear attention has no scores, so it does not support a scale, a softcap, ALiBi or dropout"
        return None

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Return a timed function that processes all keys at once, or in chunks under a causal mask."""
        from attnbench_variants._visible import simplest_kind

        attend = _bidirectional if simplest_kind(workload) == "none" else _causal
        group = workload.heads // workload.kv_heads
        dtype = inputs.query.dtype

        def run(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            query, key, value = _features(query), _features(key), value.float()
            if group > 1:
                key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
            return attend(query, key, value).to(dtype)

        return run


def _features(tensor: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import elu

    return elu(tensor.float()) + 1


def _bidirectional(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    state = key.mT @ value
    size = query @ key.sum(-2)[..., None]
    return (query @ state) / (size + EPSILON)


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    import torch

    state = query.new_zeros(*key.shape[:2], key.shape[-1], value.shape[-1])
    total = query.new_zeros(*key.shape[:2], key.shape[-1], 1)
    outputs = []
    for rows, keys, values in zip(*(tensor.split(CHUNK, dim=2) for tensor in (query, key, value)), strict=True):
        weights = (rows @ keys.mT).tril()
        size = weights.sum(-1, keepdim=True) + rows @ total
        outputs.append((weights @ values + rows @ state) / (size + EPSILON))
        state = state + keys.mT @ values
        total = total + keys.sum(-2)[..., None]
    return torch.cat(outputs, dim=2)


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the variant `linear`."""
    return [Linear()]
