"""A whole attention layer around any variant: projections to query, key and value, attention, output projection.

Vaswani et al., 2017, arXiv:1706.03762, section 3.2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnbench.tensors.inputs import Inputs, dtype_of, make_inputs, refill
from attnbench.workloads.cost import projections

if TYPE_CHECKING:
    from attnbench.plugins.variant import Layout, Timed, Variant
    from attnbench.workloads.workload import Workload


@dataclass(frozen=True)
class LayerInputs(Inputs):
    """A layer's tensors: `query` are the token embeddings (B, Sq, 1, E), as the one head of a `BSHD` problem.

    `key` and `value` are both the tokens that keys and values are projected from: `query` itself, or in cross attention
    (B, Sk, 1, E). `weights` are those of the projections to query, key and value and of the output, (outer, inner)
    each; `grad_output` is (B, Sq, 1, E). `attention` holds what the variant reads, in its own layout: each call
    projects into it.
    """

    weights: tuple[torch.Tensor, ...] = ()
    attention: Inputs | None = None

    @property
    def leaves(self) -> tuple[torch.Tensor, ...]:  # type: ignore[override] # a layer has more of them
        """Tokens, the other tokens of cross attention, and the weights: what gradients are taken for."""
        tokens = (self.query,) if self.key is self.query else (self.query, self.key)
        return (*tokens, *self.weights)


def make_layer_inputs(workload: Workload, device: str, layout: Layout, seed: int) -> LayerInputs:
    """Make the seeded inputs of a layer around a variant of `layout`."""
    w = workload

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype_of(w), device=device)

    tokens = empty(w.batch, w.seq_q, 1, w.embed_dim)
    others = tokens if w.seq_q == w.seq_k else empty(w.batch, w.seq_k, 1, w.embed_dim)
    inputs = LayerInputs(
        layout="BSHD",
        query=tokens,
        key=others,
        value=others,
        grad_output=torch.empty_like(tokens) if w.needs_gradient else None,
        seed=seed,
        weights=tuple(empty(one.outer, one.inner) for one in projections(w)),
        attention=make_inputs(w.attention, device, layout, seed),
    )
    refill_layer(inputs, seed, w.distribution)
    for leaf in inputs.leaves:
        leaf.requires_grad_(w.needs_gradient)
    return inputs


def refill_layer(inputs: LayerInputs, seed: int, distribution: str = "normal") -> None:
    """Overwrite tokens and weights in place; weights are normal, scaled so that what they project keeps its size."""
    refill(inputs, seed, distribution)
    generator = torch.Generator().manual_seed(seed)
    for weight in inputs.weights:
        weight.data.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[1] ** -0.5)


def layer(variant: Variant, workload: Workload, inputs: LayerInputs) -> Timed:
    """Prepare a variant and return the whole layer's callable: (B, Sq, 1, E), differentiable in `inputs.leaves`."""
    own = inputs.attention
    assert own is not None, "make the inputs with make_layer_inputs"  # noqa: S101 - our own order of calls
    attend = variant.prepare(workload.attention, own)
    return lambda: _Layer.apply(attend, own, inputs.key is inputs.query, *inputs.leaves)  # type: ignore[no-untyped-call]


class _Layer(torch.autograd.Function):
    """The layer as one step, so that projections are written to where the variant reads, without a copy in between."""

    @staticmethod
    def forward(ctx: Any, attend: Timed, own: Inputs, self_attention: bool, *leaves: torch.Tensor) -> torch.Tensor:
        *tokens, to_query, to_key, to_value, to_output = leaves
        sources = (tokens[0], tokens[-1], tokens[-1])
        for target, source, weight in zip(own.leaves, sources, (to_query, to_key, to_value), strict=True):
            _project(source, weight, target.data, own.layout)
        with torch.set_grad_enabled(any(leaf.requires_grad for leaf in leaves)):
            attended = attend()
        ctx.own, ctx.attended, ctx.self_attention = own, attended, self_attention
        ctx.save_for_backward(*leaves)
        return (_joined(attended.detach(), own.layout) @ to_output.T).view(tokens[0].shape)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *tokens, to_query, to_key, to_value, to_output = ctx.saved_tensors
        layout, attended = ctx.own.layout, ctx.attended
        grad_rows = grad_output.flatten(0, 2)
        grad_attended = _parted(grad_rows @ to_output, attended, layout)
        grads = torch.autograd.grad(attended, ctx.own.leaves, grad_attended)
        of_query, of_key, of_value = (_joined(grad, layout) for grad in grads)
        rows, others = tokens[0].flatten(0, 2), tokens[-1].flatten(0, 2)
        grad_tokens = [of_query @ to_query, torch.addmm(of_key @ to_key, of_value, to_value)]
        if ctx.self_attention:
            grad_tokens = [grad_tokens[0].add_(grad_tokens[1])]
        of_weights = (of_query.T @ rows, of_key.T @ others, of_value.T @ others)
        return (
            *(None, None, None),
            *(grad.view(token.shape) for grad, token in zip(grad_tokens, tokens, strict=True)),
            *(*of_weights, grad_rows.T @ _joined(attended.detach(), layout)),
        )


def _project(tokens: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, layout: Layout) -> None:
    """Write the projection of (B, S, 1, E) to `target`; a `BHSD` one takes a copy more, as it does in a model."""
    rows = tokens.flatten(0, 2)
    if layout == "BSHD":
        torch.mm(rows, weight.T, out=target.flatten(2).flatten(0, 1))
    else:
        batch, heads, length, width = target.shape
        target.copy_((rows @ weight.T).view(batch, length, heads, width).transpose(1, 2))


def _joined(tensor: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Put heads side by side: (B * S, H * D)."""
    return (tensor.transpose(1, 2) if layout == "BHSD" else tensor).flatten(2).flatten(0, 1)


def _parted(rows: torch.Tensor, like: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Undo `_joined`, contiguous, for a tensor shaped as `like`."""
    batch, first, second, width = like.shape
    if layout == "BSHD":
        return rows.view(like.shape)
    return rows.view(batch, second, first, width).transpose(1, 2).contiguous()
