"""FlashAttention's forward pass as a Triton kernel, with one program for each block of queries.

To time it on a GPU: `attnbench run -p examples/triton_attention.py -v example-triton,sdpa`. Without a GPU, Triton's
interpreter can show whether the kernel is correct, but not how fast it is: `TRITON_INTERPRET=1 attnbench check
example-triton -p examples/triton_attention.py`. The algorithm is from Dao, 2023, arXiv:2307.08691, section 3.1.
"""

import importlib.util
import os

from attnbench import Variant, hookimpl

LOG2_E = 1.4426950408889634  # exp(x) is computed as exp2(x * LOG2_E), because GPUs have an exp2 instruction
HAS_TRITON = importlib.util.find_spec("triton") is not None

if HAS_TRITON:
    import triton
    import triton.language as tl

    @triton.jit
    def _forward(  # noqa: PLR0917 - a Triton kernel takes pointers and sizes as separate arguments
        query_ptr, key_ptr, value_ptr, output_ptr, scale, seq_q, seq_k, heads, groups,
        HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, CAUSAL: tl.constexpr,
        BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    ):  # fmt: skip
        """Compute BLOCK_Q rows of one head in a loop over blocks of keys, with an online softmax."""
        head = tl.program_id(1).to(tl.int64)  # the head's index over all sequences
        kv_head = head // heads * (heads // groups) + head % heads // groups
        rows = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
        width, width_v = tl.arange(0, HEAD_DIM), tl.arange(0, HEAD_DIM_V)
        query_at = (head * seq_q + rows)[:, None] * HEAD_DIM + width[None, :]
        query = tl.load(query_ptr + query_at, mask=rows[:, None] < seq_q, other=0.0)

        largest = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK_Q,), tl.float32)
        summed = tl.zeros((BLOCK_Q, HEAD_DIM_V), tl.float32)
        last = rows + seq_k - seq_q  # each row's last visible key under a causal mask
        end = tl.minimum(seq_k, tl.max(last) + 1) if CAUSAL else seq_k
        for start in range(0, end, BLOCK_K):
            columns = start + tl.arange(0, BLOCK_K)
            valid = columns[:, None] < seq_k
            at = kv_head * seq_k + columns
            key = tl.load(key_ptr + at[:, None] * HEAD_DIM + width[None, :], mask=valid, other=0.0)
            value = tl.load(value_ptr + at[:, None] * HEAD_DIM_V + width_v[None, :], mask=valid, other=0.0)
            scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
            visible = columns[None, :] < seq_k
            if CAUSAL:
                visible = visible & (columns[None, :] <= last[:, None])
            scores = tl.where(visible, scores, float("-inf"))
            new_largest = tl.maximum(largest, tl.max(scores, 1))
            shift = tl.where(new_largest == float("-inf"), 0.0, new_largest)  # because -inf - (-inf) would be NaN
            weights = tl.exp2(scores - shift[:, None])
            decay = tl.exp2(largest - shift)
            total = total * decay + tl.sum(weights, 1)
            summed = summed * decay[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
            largest = new_largest

        output = summed / tl.where(total == 0.0, 1.0, total)[:, None]
        output_at = (head * seq_q + rows)[:, None] * HEAD_DIM_V + width_v[None, :]
        tl.store(output_ptr + output_at, output.to(output_ptr.dtype.element_ty), mask=rows[:, None] < seq_q)


class TritonAttention(Variant):
    """FlashAttention's forward pass as a Triton kernel."""

    name = "example-triton"

    def unsupported_reason(self, workload, device):  # noqa: PLR0911 - one return per reason is easiest to read
        """Return why the kernel can't run the workload, or None if it can."""
        if not HAS_TRITON:
            return "needs the package triton (pip install triton)"
        if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
            return "Triton needs a GPU; TRITON_INTERPRET=1 runs its interpreter, which can check results but is slow"
        if device == "cpu" and workload.dtype == "bfloat16":
            return "Triton's interpreter can't multiply bfloat16"
        if workload.needs_gradient:
            return "forward only"
        if workload.mask.kind not in ("none", "causal"):
            return f"mask {workload.mask}: only none and causal"
        if workload.softcap or workload.alibi or workload.dropout:
            return "no softcap, no ALiBi, no dropout"
        for width in (workload.head_dim, workload.head_dim_v):
            if width < 16 or width & (width - 1):
                return f"head dimension {width}: must be a power of two and at least 16"
        return None

    def prepare_function(self, workload, inputs):
        """Return a function that launches the kernel. The first call compiles the kernel and is not timed."""
        block = 64 if workload.head_dim <= 64 else 32
        grid = (triton.cdiv(workload.seq_q, block), workload.batch * workload.heads)
        shape = (workload.batch, workload.heads, workload.seq_q, workload.head_dim_v)

        def attention(query, key, value):
            output = query.new_empty(shape)
            if output.numel():
                # The inputs may be views with any strides, but the kernel needs contiguous tensors.
                query, key, value = (tensor.contiguous() for tensor in (query, key, value))
                _forward[grid](
                    query, key, value, output, workload.effective_scale * LOG2_E,
                    workload.seq_q, workload.seq_k, workload.heads, workload.heads // workload.kv_heads,
                    HEAD_DIM=workload.head_dim, HEAD_DIM_V=workload.head_dim_v, CAUSAL=workload.mask.is_causal,
                    BLOCK_Q=block, BLOCK_K=block,
                )  # fmt: skip
            return output

        return attention


@hookimpl
def attnbench_variants():
    """Return the variants that this plugin offers."""
    return [TritonAttention()]
