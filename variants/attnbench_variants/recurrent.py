"""Recurrent layers as wide as the attention layer. They show the cost of processing a sequence token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import Inputs, Variant, Workload, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class Recurrent(Variant):
    """One of torch's recurrent layers, applied to tokens of width heads * head_dim.

    The layer is not attention, so its results are shown separately. Each token is the sum of its query, key and value,
    so that the layer reads all three tensors and computes their gradients. `prepare` initialises the layer's weights
    with a fixed seed. No gradients are computed for the weights.
    """

    layout = "BSHD"
    exact = False
    default_on = ()  # not attention, so the variant runs only if it is requested by name, as in the `parallelism` study

    def __init__(self, name: str, layer: str) -> None:
        self.name = name
        self.layer = layer  # the name of a class in torch.nn
        self.__doc__ = f"torch.nn.{layer} as wide as attention, one token at a time; not attention."

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:  # noqa: ARG002 - the same on all devices
        """Return why a recurrent layer can't represent the workload, or None if it can."""
        w = workload
        same_shape = (w.heads, w.seq_q, w.head_dim) == (w.kv_heads, w.seq_k, w.head_dim_v)
        if w.mask.kind not in ("causal", "causal-top-left"):
            return f"a recurrent layer never sees later tokens, so its mask must be causal, not {w.mask}"
        if not same_shape:
            return "a recurrent layer needs queries, keys and values of the same shape"
        if w.softcap is not None or w.alibi or w.dropout or w.scale is not None:
            return "a recurrent layer has no scores, so it does not support a scale, a softcap, ALiBi or dropout"
        if 0 in (w.batch, w.seq_q):
            return "a recurrent layer does not support an empty batch or sequence"
        return None

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Make the layer with seeded weights and return the timed function."""
        import torch

        width = workload.heads * workload.head_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer = getattr(torch.nn, self.layer)(width, width, batch_first=True)
        layer = layer.to(inputs.query.device, inputs.query.dtype).requires_grad_(False)
        heads = (workload.heads, workload.head_dim)

        def step_through(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            tokens = (query + key + value).flatten(2)
            return layer(tokens)[0].unflatten(2, heads)

        return step_through


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the variants `lstm` and `gru`."""
    return [Recurrent("lstm", "LSTM"), Recurrent("gru", "GRU")]
