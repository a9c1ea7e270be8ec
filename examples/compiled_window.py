"""Sliding-window attention in plain PyTorch, compiled by torch.compile.

To time it: `attnbench run -p examples/compiled_window.py -v example-compiled-window,sdpa --mask window:128:0 --heads 8
--seq 2048 --head-dim 64`. Queries are processed in blocks, and each block uses only the keys that its window can reach,
as in Longformer (Beltagy et al., 2020, arXiv:2004.05150, section 3.1). The work is therefore proportional to the
sequence length times the window size.
"""

import torch
from torch.nn.functional import pad

from attnbench import Variant, hookimpl


def window_attention(query, key, value, *, left, right, scale, block):
    """Return attention within a window: (B, H, Sq, D), (B, H, Sk, D), (B, H, Sk, Dv) -> (B, H, Sq, Dv).

    Row i attends to keys i + Sk - Sq - left to i + Sk - Sq + right, both included. The output of a row without such
    keys is 0.
    """
    seq_q, seq_k = query.shape[2], key.shape[2]
    blocks = -(-seq_q // block)
    reach = left + block + right  # one block of queries can attend to this many keys
    first = seq_k - seq_q - left  # the position at which the first block's keys begin; may be negative

    query = pad(query, (0, 0, 0, blocks * block - seq_q)).unflatten(2, (blocks, block))
    row = torch.arange(block, device=query.device)[:, None]
    column = torch.arange(reach, device=query.device)
    starts = first + block * torch.arange(blocks, device=query.device)
    position = starts[:, None] + column  # the key positions of each block, with the shape (blocks, reach)
    inside = (position >= 0) & (position < seq_k)
    key, value = (tensor[:, :, position.clamp(0, seq_k - 1)] for tensor in (key, value))
    scores = torch.einsum("bhnqd,bhnkd->bhnqk", query.float() * scale, key.float())
    visible = (column >= row) & (column <= row + left + right) & inside[:, None]
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1).masked_fill(~visible, 0.0)
    output = torch.einsum("bhnqk,bhnkd->bhnqd", weights.to(value.dtype), value)
    return output.flatten(2, 3)[:, :, :seq_q].contiguous()


class CompiledWindow(Variant):
    """Sliding-window attention in blocks, compiled by torch.compile."""

    name = "example-compiled-window"
    costly_on = ("cpu",)  # compiling for a new shape takes seconds, so the conformance suite uses fewer shapes

    def unsupported_reason(self, workload, device):
        """Return why the compiled function can't run the workload, or None if it can."""
        if workload.mask.kind != "window":
            return f"mask {workload.mask}: only window:L:R"
        if workload.softcap or workload.alibi or workload.dropout:
            return "no softcap, no ALiBi, no dropout"
        if not workload.batch or not workload.seq_q or not workload.seq_k:
            return "empty batch or sequence: the compiled function needs at least one row and one key"
        return None

    def prepare_function(self, workload, inputs):
        """Compile the function for this workload's shapes. The timed call repeats keys and values of grouped heads."""
        torch.compiler.reset()  # otherwise torch.compile would stop compiling after a few shapes
        compiled = torch.compile(window_attention, dynamic=False, fullgraph=True)
        groups = workload.heads // workload.kv_heads
        left, right = min(workload.mask.left, workload.seq_k), min(workload.mask.right, workload.seq_k)
        block = min(workload.seq_q, max(16, left + right))

        def attention(query, key, value):
            if groups > 1:
                key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
            return compiled(query, key, value, left=left, right=right, scale=workload.effective_scale, block=block)

        return attention


@hookimpl
def attnbench_variants():
    """Return the variants that this plugin offers."""
    return [CompiledWindow()]
