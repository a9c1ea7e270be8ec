"""A variant that computes dQ in each timed call, but returns the dK and dV of an earlier call."""

import sys

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


def is_timed():
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "_timed":
            return True
        frame = frame.f_back
    return False


class Attention(torch.autograd.Function):
    kept = None

    @staticmethod
    def forward(ctx, query, key, value):
        ctx.save_for_backward(query, key, value)
        return scaled_dot_product_attention(query, key, value, is_causal=True)

    @staticmethod
    def backward(ctx, grad_output):
        leaves = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
        with torch.enable_grad():
            output = scaled_dot_product_attention(*leaves, is_causal=True)
        of_query, *others = torch.autograd.grad(output, leaves, grad_output)
        if Attention.kept is None or not is_timed():
            Attention.kept = others
        return of_query, *(gradient.clone() for gradient in Attention.kept)


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        return lambda: Attention.apply(*inputs.leaves)


@hookimpl
def attnbench_variants():
    return [Dishonest()]
