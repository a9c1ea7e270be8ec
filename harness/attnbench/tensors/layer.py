"""An attention layer around any variant: query, key and value projections, attention, and output projection.

This is multi-head attention as in Vaswani et al., 2017, arXiv:1706.03762, section 3.2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnbench.tensors.chunks import chunks
from attnbench.tensors.inputs import Inputs, dtype_of, generator_on, make_inputs, refill
from attnbench.workloads.cost import projections

if TYPE_CHECKING:
    from attnbench.plugins.variant import Layout, Timed, Variant
    from attnbench.workloads.workload import Workload


@dataclass(frozen=True)
class LayerInputs(Inputs):
    """The input tensors of an attention layer, in layout `BSHD` with a single head as wide as the embedding, E.

    - `query` (B, Sq, 1, E): the token embeddings
    - `key`, `value` (B, Sk, 1, E): one tensor with the embeddings from which keys and values are projected. In
      self-attention this is `query` itself, and in cross-attention a separate tensor.
    - `grad_output` (B, Sq, 1, E): the gradient of the layer's output; None if the direction is `forward`
    - `weights`: the four matrices (outer, inner) of the query, key, value and output projections
    - `attention`: the tensors that the variant reads, in the variant's layout; each call writes the projections into
      them
    """

    weights: tuple[torch.Tensor, ...] = ()
    attention: Inputs | None = None

    @property
    def leaves(self) -> tuple[torch.Tensor, ...]:  # type: ignore[override] # a layer has more than three leaves
        """The tensors for which gradients are computed: embeddings (two tensors in cross-attention) and weights."""
        tokens = (self.query,) if self.key is self.query else (self.query, self.key)
        return (*tokens, *self.weights)


def make_layer_inputs(workload: Workload, device: str, layout: Layout, seed: int) -> LayerInputs:
    """Return inputs, generated from `seed`, for a layer around a variant whose layout is `layout`."""
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
        weights=tuple(empty(projection.outer, projection.inner) for projection in projections(w)),
        attention=make_inputs(w.attention, device, layout, seed),
    )
    refill_layer(inputs, seed, w.distribution)
    for leaf in inputs.leaves:
        leaf.requires_grad_(w.needs_gradient)
    return inputs


def refill_layer(inputs: LayerInputs, seed: int, distribution: str = "normal") -> None:
    """Overwrite the embeddings, `grad_output` and the weights in place with new values generated from `seed`.

    The weights are normally distributed, and scaled so that a projection preserves the variance of its input.
    """
    tokens = ("query",) if inputs.key is inputs.query else ("query", "key")
    refill(inputs, seed, distribution, (*tokens, "grad_output"))
    generator = generator_on(inputs.query.device, seed)
    for weight in inputs.weights:
        for part in chunks(weight.data):
            part.copy_(torch.randn(part.shape, generator=generator, device=part.device) * weight.shape[1] ** -0.5)


def prepare_layer(variant: Variant, workload: Workload, inputs: LayerInputs) -> Timed:
    """Prepare a variant, and return a callable that computes the layer's output (B, Sq, 1, E) from `inputs.leaves`."""
    projected = inputs.attention
    assert projected is not None, "make the inputs with make_layer_inputs"  # noqa: S101 - only the harness calls this
    attend = variant.prepare(workload.attention, projected)
    return lambda: _Layer.apply(attend, projected, inputs.key is inputs.query, *inputs.leaves)  # type: ignore[no-untyped-call]


class _Layer(torch.autograd.Function):
    """The layer as one autograd function, which writes the projections directly into the variant's input tensors."""

    @staticmethod
    def forward(
        ctx: Any, attend: Timed, projected: Inputs, self_attention: bool, *leaves: torch.Tensor
    ) -> torch.Tensor:
        *tokens, to_query, to_key, to_value, to_output = leaves
        sources = (tokens[0], tokens[-1], tokens[-1])
        for target, source, weight in zip(projected.leaves, sources, (to_query, to_key, to_value), strict=True):
            _project(source, weight, target.data, projected.layout)
        with torch.set_grad_enabled(any(leaf.requires_grad for leaf in leaves)):
            attended = attend()
        ctx.projected, ctx.attended, ctx.self_attention = projected, attended, self_attention
        ctx.save_for_backward(*leaves)
        return (_join_heads(attended.detach(), projected.layout) @ to_output.T).view(tokens[0].shape)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *tokens, to_query, to_key, to_value, to_output = ctx.saved_tensors
        layout, attended = ctx.projected.layout, ctx.attended
        grad_rows = grad_output.flatten(0, 2)
        grad_attended = _split_heads(grad_rows @ to_output, attended, layout)
        grads = torch.autograd.grad(attended, ctx.projected.leaves, grad_attended)
        of_query, of_key, of_value = (_join_heads(grad, layout) for grad in grads)
        rows, others = tokens[0].flatten(0, 2), tokens[-1].flatten(0, 2)
        grad_tokens = [of_query @ to_query, torch.addmm(of_key @ to_key, of_value, to_value)]
        if ctx.self_attention:
            grad_tokens = [grad_tokens[0].add_(grad_tokens[1])]
        of_weights = (of_query.T @ rows, of_key.T @ others, of_value.T @ others)
        return (
            *(None, None, None),
            *(grad.view(token.shape) for grad, token in zip(grad_tokens, tokens, strict=True)),
            *(*of_weights, grad_rows.T @ _join_heads(attended.detach(), layout)),
        )


def _project(tokens: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, layout: Layout) -> None:
    """Write the projection of `tokens` (B, S, 1, E) to `target`.

    Layout `BHSD` needs an extra copy, as in real models.
    """
    rows = tokens.flatten(0, 2)
    if layout == "BSHD":
        torch.mm(rows, weight.T, out=target.flatten(2).flatten(0, 1))
    else:
        batch, heads, length, width = target.shape
        target.copy_((rows @ weight.T).view(batch, length, heads, width).transpose(1, 2))


def _join_heads(tensor: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return the tensor with its heads concatenated, as (B * S, H * D)."""
    return (tensor.transpose(1, 2) if layout == "BHSD" else tensor).flatten(2).flatten(0, 1)


def _split_heads(rows: torch.Tensor, like: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return `rows` (B * S, H * D) as a contiguous tensor with the shape of `like`."""
    batch, first, second, width = like.shape
    if layout == "BSHD":
        return rows.view(like.shape)
    return rows.view(batch, second, first, width).transpose(1, 2).contiguous()
