"""Signatures of the functions of torch that the built-in variants call, in several versions of torch.

They were copied from the Python files and stubs in the wheels of these releases (macOS, arm64), without annotations.
"""

import inspect

# torch/nn/attention/varlen.py
VARLEN_2_11 = (
    "query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)"
)
VARLEN_2_12 = f"{VARLEN_2_11}, enable_gqa=False, seqused_k=None, block_table=None, num_splits=None"
# torch/nn/attention/flex_attention.py: BlockMask.from_kv_blocks, without `cls`
KV_BLOCKS_2_10 = (
    "kv_num_blocks, kv_indices, full_kv_num_blocks=None, full_kv_indices=None, BLOCK_SIZE=128, mask_mod=None, "
    "seq_lengths=None, compute_q_blocks=True"
)
KV_BLOCKS_2_13 = f"{KV_BLOCKS_2_10}, *, dq_write_order=None, dq_write_order_full=None, dq_kv_order=None"
# These are the same in all versions below. The files are torch/_C/_nn.pyi, torch/nested/__init__.py,
# torch/backends/cuda/__init__.py, and in torch/nn/attention: flex_attention.py and bias.py.
UNCHANGED = {
    "torch.nn.functional.scaled_dot_product_attention": (
        "query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False"
    ),
    "torch.nn.attention.flex_attention.flex_attention": (
        "query, key, value, score_mod=None, block_mask=None, scale=None, enable_gqa=False, return_lse=False, "
        "kernel_options=None, *, return_aux=None"
    ),
    **{f"torch.backends.cuda.{name}_sdp_enabled": "" for name in ("flash", "mem_efficient", "math", "cudnn")},
    **{f"torch.backends.cuda.enable_{name}_sdp": "enabled" for name in ("flash", "mem_efficient", "math", "cudnn")},
    "torch.nn.attention.bias.causal_lower_right": "*size",
    "torch.nested.nested_tensor_from_jagged": (
        "values, offsets=None, lengths=None, jagged_dim=None, min_seqlen=None, max_seqlen=None"
    ),
    "torch.backends.cuda.can_use_flash_attention": "params, debug=False",
    "torch.backends.cuda.can_use_efficient_attention": "params, debug=False",
    "torch.backends.cuda.can_use_cudnn_attention": "params, debug=False",
}
VARLEN, KV_BLOCKS = (
    "torch.nn.attention.varlen.varlen_attn",
    "torch.nn.attention.flex_attention.BlockMask.from_kv_blocks",
)
RECORDED = {
    "2.10.0": UNCHANGED
    | {
        VARLEN: "query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None",
        KV_BLOCKS: KV_BLOCKS_2_10,
    },
    "2.11.0": UNCHANGED | {VARLEN: VARLEN_2_11, KV_BLOCKS: KV_BLOCKS_2_10},
    "2.12.0": UNCHANGED | {VARLEN: VARLEN_2_12, KV_BLOCKS: KV_BLOCKS_2_10},
    "2.13.0": UNCHANGED | {VARLEN: VARLEN_2_12, KV_BLOCKS: KV_BLOCKS_2_13},
    "2.14.0": UNCHANGED | {VARLEN: VARLEN_2_12, KV_BLOCKS: KV_BLOCKS_2_13},
}


def signature(version, name):
    """Return the signature that a function of torch has in a version."""
    return inspect.signature(eval(f"lambda {RECORDED[version][name]}: None"))  # noqa: S307 - the text is in this file
