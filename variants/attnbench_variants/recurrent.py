"""Recurrent layers of attention's width: what a sequence costs that is stepped through one token at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import Inputs, Variant, Workload, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class Recurrent(Variant):
    """One torch recurrent layer over tokens of width heads * head_dim; no attention, so it is shown apart.

    A token is the sum of its query, key and value, so that each of them is read and gets a gradient. The layer's
    weights are seeded, made in `prepare`, and no gradient is taken for them.
    """

    layout = "BSHD"
    exact = False
    default_on = ()  # no attention: for who asks for it by name, as the study of parallelism does

    def __init__(self, name: str, layer: str) -> None:
        self.name = name
        self.layer = layer  # a class of torch.nn
        self.__doc__ = f"torch.nn.{layer} of attention's width, stepped through one token at a time; no attention."

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:  # noqa: ARG002 - alike on all devices
        """Say why a recurrent layer has no counterpart of the workload."""
        w = workload
        alike = (w.heads, w.seq_q, w.head_dim) == (w.kv_heads, w.seq_k, w.head_dim_v)
        if w.mask.kind not in ("causal", "causal-top-left"):
            return f"a recurrent layer sees the past alone: its mask is causal, not {w.mask}"
        if not alike:
            return "a recurrent layer needs queries, keys and values of one shape"
        if w.softcap is not None or w.alibi or w.dropout or w.scale is not None:
            return "a recurrent layer has no scores: no scale, softcap, ALiBi or dropout"
        if 0 in (w.batch, w.seq_q):
            return "a recurrent layer takes no empty batch or sequence"
        return None

    def prepare(self, workload: Workload, inputs: Inputs) -> Callable[[], torch.Tensor]:
        """Make the layer."""
        import torch

        width = workload.heads * workload.head_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer = getattr(torch.nn, self.layer)(width, width, batch_first=True)
        layer = layer.to(inputs.query.device, inputs.query.dtype).requires_grad_(False)
        heads = (workload.heads, workload.head_dim)

        def step_through() -> torch.Tensor:
            tokens = (inputs.query + inputs.key + inputs.value).flatten(2)
            return layer(tokens)[0].unflatten(2, heads)

        return step_through


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Offer `lstm` and `gru`."""
    return [Recurrent("lstm", "LSTM"), Recurrent("gru", "GRU")]
