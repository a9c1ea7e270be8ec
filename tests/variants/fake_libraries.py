"""Fakes of attention libraries that need a GPU, with the signatures and results that the libraries document.

The comments name the library versions from which the signatures were copied. A call that does not match a library's
signature fails with the fake as well.
"""

# ruff: noqa: D103 - these functions replace library functions, which have their own documentation

import importlib.machinery
import itertools
import sys
import types

import torch


def dense(query, key, value, *, causal=False, window=(-1, -1), softcap=0.0, slopes=None, scale=None, hidden=None):
    """Return the attention output of one sequence, a tensor of shape (Sq, H, Dv).

    The shapes of query, key and value are (Sq, H, D), (Sk, Hkv, D) and (Sk, Hkv, Dv). Masks are bottom-right aligned.
    Windows include both ends, and -1 or None means no bound. The output of a row that sees no key is 0.
    """
    group = query.shape[1] // key.shape[1]
    queries, keys, values = (tensor.float().transpose(0, 1) for tensor in (query, key, value))
    scores = queries @ keys.repeat_interleave(group, 0).mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    row = torch.arange(query.shape[0])[:, None] + key.shape[0] - query.shape[0]
    column = torch.arange(key.shape[0])
    if slopes is not None:
        scores = scores - slopes.float()[:, None, None] * (row - column).abs()
    left, right = window
    blocked = torch.zeros(scores.shape[-2:], dtype=torch.bool) if hidden is None else hidden
    if causal:
        right = 0 if right in (-1, None) else min(right, 0)
    if right not in (-1, None):
        blocked = blocked | (column > row + right)
    if left not in (-1, None):
        blocked = blocked | (column < row - left)
    weights = scores.masked_fill(blocked, -1e30).softmax(-1) * ~blocked
    return (weights @ values.repeat_interleave(group, 0)).transpose(0, 1).to(query.dtype)


def batched(query, key, value, **named):
    """Return the attention output for batched tensors of shape (B, S, H, D)."""
    return torch.stack([dense(*sequence, **named) for sequence in zip(query, key, value, strict=True)])


def ragged(query, key, value, query_starts, key_starts, **named):
    """Return the attention output for packed sequences, in tensors of shape (total, H, D)."""
    assert query_starts.dtype == key_starts.dtype == torch.int32
    assert query_starts[-1] == len(query)
    assert key_starts[-1] == len(key) == len(value)
    spans = zip(query_starts, query_starts[1:], key_starts, key_starts[1:], strict=False)
    return torch.cat([dense(query[a:b], key[c:d], value[c:d], **named) for a, b, c, d in spans])


def _longest(starts):
    return int((starts[1:] - starts[:-1]).max())


# The signatures of these functions match those in flash_attn/flash_attn_interface.py of flash-attn 2.8.3.
def flash_attn_2_func(
    q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None,
    deterministic=False, return_attn_probs=False,
):  # fmt: skip
    assert not dropout_p
    named = {"softcap": softcap, "slopes": alibi_slopes, "scale": softmax_scale}
    return batched(q, k, v, causal=causal, window=window_size, **named)


def flash_attn_2_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False,
    window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False, return_attn_probs=False,
    block_table=None,
):  # fmt: skip
    assert not dropout_p
    assert max_seqlen_q == _longest(cu_seqlens_q)
    assert max_seqlen_k == _longest(cu_seqlens_k)
    named = {"softcap": softcap, "slopes": alibi_slopes, "scale": softmax_scale}
    return ragged(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=causal, window=window_size, **named)


def flash_attn_2_with_kvcache(
    q, k_cache, v_cache, k=None, v=None, rotary_cos=None, rotary_sin=None, cache_seqlens=None, cache_batch_idx=None,
    cache_leftpad=None, block_table=None, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0,
    rotary_interleaved=True, alibi_slopes=None, num_splits=0, return_softmax_lse=False,
):  # fmt: skip
    assert k is None
    assert v is None
    assert k_cache.shape[1] % 256 == 0, "paged KV cache block size must be divisible by 256"
    assert cache_seqlens.dtype == block_table.dtype == torch.int32
    named = {"softcap": softcap, "scale": softmax_scale, "causal": causal, "window": window_size}
    parts = zip(q, block_table.long(), cache_seqlens, strict=True)
    return torch.stack(
        [dense(rows, *(c[pages].flatten(0, 1)[:n] for c in (k_cache, v_cache)), **named) for rows, pages, n in parts]
    )


# The signatures of these functions match those of flash-attn 3, in hopper/flash_attn_interface.py of the
# flash-attention repository at version 2.8.3.
def flash_attn_3_func(
    q, k, v, softmax_scale=None, causal=False, qv=None, q_descale=None, k_descale=None, v_descale=None,
    window_size=(-1, -1), attention_chunk=0, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False,
    sm_margin=0,
):  # fmt: skip
    return batched(q, k, v, causal=causal, window=window_size, softcap=softcap, scale=softmax_scale)


def flash_attn_3_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_q=None, seqused_k=None,
    softmax_scale=None, causal=False, qv=None, q_descale=None, k_descale=None, v_descale=None, window_size=(-1, -1),
    attention_chunk=0, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False, sm_margin=0,
):  # fmt: skip
    assert max_seqlen_k == _longest(cu_seqlens_k)
    named = {"softcap": softcap, "scale": softmax_scale}
    return ragged(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=causal, window=window_size, **named)


# The signatures of these functions match those in flash_attn/cute/interface.py of flash-attn-4 4.0.0b36. The functions
# always return (output, None), as the library does if no log-sum-exp is requested.
def flash_attn_4_func(
    q, k, v, qv=None, gather_kv_indices=None, softmax_scale=None, causal=False, window_size=(None, None),
    learnable_sink=None, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False, score_mod=None,
    score_mod_bwd=None, mask_mod=None, aux_tensors=None, aux_scalars=None, block_sparse_tensors=None,
    block_sparse_tensors_bwd=None, return_lse=False, gather_bwd_recompute_p=False, gather_bwd_token_chunk=None,
):  # fmt: skip
    return batched(q, k, v, causal=causal, window=window_size, softcap=softcap, scale=softmax_scale), None


def flash_attn_4_varlen_func(
    q, k, v, qv=None, cu_seqlens_q=None, cu_seqlens_k=None, max_seqlen_q=None, max_seqlen_k=None, min_seqlen_k=None,
    seqused_q=None, seqused_k=None, gather_kv_indices=None, page_table=None, softmax_scale=None, causal=False,
    window_size=(None, None), learnable_sink=None, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False,
    score_mod=None, score_mod_bwd=None, mask_mod=None, block_sparse_tensors=None, aux_tensors=None, aux_scalars=None,
    return_lse=False, scheduler_metadata=None, seqlen_k_per_split=None, disable_scheduler_metadata=False,
    gather_bwd_recompute_p=False, gather_bwd_token_chunk=None,
):  # fmt: skip
    named = {"softcap": softcap, "scale": softmax_scale}
    return ragged(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=causal, window=window_size, **named), None


# The signature of this function matches the one in torch/nn/attention/varlen.py of torch 2.13.
def varlen_attn(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1),
    enable_gqa=False, seqused_k=None, block_table=None, num_splits=None,
):  # fmt: skip
    assert enable_gqa or query.shape[1] == key.shape[1]
    return ragged(query, key, value, cu_seq_q, cu_seq_k, window=window_size, scale=scale)


# Like sageattention 1.0.6, this function changes the keys in place by subtracting their mean.
def sageattn(q, k, v, tensor_layout="HND", is_causal=False, sm_scale=None, smooth_k=True, **kwargs):
    assert tensor_layout == "HND"
    assert not kwargs, "sageattn silently ignores unknown arguments"
    if smooth_k:
        k -= k.mean(dim=2, keepdim=True)
    leaves = (tensor.transpose(1, 2) for tensor in (q, k, v))
    return batched(*leaves, causal=is_causal, scale=sm_scale).transpose(1, 2)


# The signatures of these methods match those in flashinfer/prefill.py of flashinfer-python 0.7.4.
class BatchPrefillWithRaggedKVCacheWrapper:
    def __init__(
        self, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, qo_indptr_buf=None, kv_indptr_buf=None,
        custom_mask_buf=None, mask_indptr_buf=None, backend="auto", jit_args=None, jit_kwargs=None,
        variant_owns_mask=False,
    ):  # fmt: skip
        assert kv_layout == "NHD"
        assert float_workspace_buffer.dtype == torch.uint8

    def plan(
        self, qo_indptr, kv_indptr, num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo=None, custom_mask=None,
        packed_custom_mask=None, causal=False, pos_encoding_mode="NONE", use_fp16_qk_reduction=False, window_left=-1,
        logits_soft_cap=None, sm_scale=None, rope_scale=None, rope_theta=None, q_data_type="float16",
        kv_data_type=None, o_data_type=None, non_blocking=True, prefix_len_ptr=None, token_pos_in_items_ptr=None,
        token_pos_in_items_len=0, max_item_len_ptr=None, fixed_split_size=None, disable_split_kv=False, seq_lens=None,
        seq_lens_q=None, max_token_per_sequence=None, max_sequence_kv=None, v_indptr=None, o_indptr=None,
        uniform_q_len=None, qo_indptr_cpu=None, kv_indptr_cpu=None, use_token_head_sf=False,
    ):  # fmt: skip
        self.heads = num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo
        self.starts = qo_indptr, kv_indptr
        self.named = {"window": (window_left, -1), "softcap": logits_soft_cap, "scale": sm_scale, "causal": causal}
        self.mask = custom_mask
        self.dtypes = q_data_type, kv_data_type

    def run(
        self, q, k, v, *args, q_scale=None, k_scale=None, v_scale=None, o_scale=None, out=None, lse=None,
        return_lse=False, lse_base="log2", lse_layout="NH", enable_pdl=None, kv_cache_sf=None,
    ):  # fmt: skip
        assert self.dtypes == (q.dtype, k.dtype)
        assert self.heads == (q.shape[1], k.shape[1], q.shape[2], v.shape[2])
        if self.mask is None:
            return ragged(q, k, v, *self.starts, **self.named)
        outputs, used = [], 0
        for a, b, c, d in zip(*(ends for starts in self.starts for ends in (starts, starts[1:])), strict=False):
            size = int((b - a) * (d - c))
            seen = self.mask[used : used + size].view(int(b - a), int(d - c))
            outputs.append(dense(q[a:b], k[c:d], v[c:d], hidden=~seen, **self.named))
            used += size
        assert used == len(self.mask)
        return torch.cat(outputs)


# The signatures of these methods match those in flashinfer/decode.py of flashinfer-python 0.7.4.
class BatchDecodeWithPagedKVCacheWrapper:
    def __init__(
        self, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, use_tensor_cores=False,
        paged_kv_indptr_buffer=None, paged_kv_indices_buffer=None, paged_kv_last_page_len_buffer=None, backend="auto",
        jit_args=None, jit_kwargs=None,
    ):  # fmt: skip
        assert kv_layout == "NHD"

    def plan(
        self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, *,
        pos_encoding_mode="NONE", window_left=-1, window_right=0, logits_soft_cap=None, q_data_type="float16",
        kv_data_type=None, o_data_type=None, data_type=None, sm_scale=None, rope_scale=None, rope_theta=None,
        non_blocking=True, block_tables=None, seq_lens=None, fixed_split_size=None, disable_split_kv=False,
        q_len_per_req=1, is_causal=None,
    ):  # fmt: skip
        assert indptr.dtype == indices.dtype == last_page_len.dtype == torch.int32
        self.pages = indptr, indices, last_page_len, page_size
        self.named = {"softcap": logits_soft_cap, "scale": sm_scale}

    def run(
        self, q, paged_kv_cache, *args, q_scale=None, k_scale=None, v_scale=None, out=None, lse=None,
        return_lse=False, enable_pdl=None, window_left=None, sinks=None, q_len_per_req=None,
        skip_softmax_threshold_scale_factor=None, kv_cache_sf=None,
    ):  # fmt: skip
        starts, indices, last, size = self.pages
        keys, values = paged_kv_cache
        assert keys.shape[1] == size
        outputs = []
        for number, (begin, end) in enumerate(itertools.pairwise(starts)):
            pages = indices[begin:end].long()
            length = (len(pages) - 1) * size + int(last[number])
            key, value = (cache[pages].flatten(0, 1)[:length] for cache in (keys, values))
            outputs.append(dense(q[number : number + 1], key, value, **self.named))
        return torch.cat(outputs)


# The signatures of these methods match those in pytorch/attention/dot_product_attention/dot_product_attention.py of
# transformer_engine 2.20.2.
class DotProductAttention:
    def __init__(
        self, num_attention_heads, kv_channels, num_gqa_groups=None, attention_dropout=0.0, qkv_format="sbhd",
        attn_mask_type="causal", window_size=None, bottom_right_diagonal=None, softcap=0.0, sequence_parallel=False,
        tp_size=1, get_rng_state_tracker=None, tp_group=None, layer_number=None, attention_type="self", cp_group=None,
        cp_global_ranks=None, cp_stream=None, cp_comm_type="p2p", softmax_scale=None, softmax_type="vanilla",
        return_max_logit=False, name=None,
    ):  # fmt: skip
        self.heads = num_attention_heads, num_gqa_groups, kv_channels
        self.format, self.mask, self.window = qkv_format, attn_mask_type, window_size or (-1, -1)
        self.scale, self.softcap = softmax_scale, softcap
        assert not attention_dropout

    def __call__(
        self, query_layer=None, key_layer=None, value_layer=None, attention_mask=None, qkv_format=None,
        cu_seqlens_q=None, cu_seqlens_kv=None, cu_seqlens_q_padded=None, cu_seqlens_kv_padded=None, max_seqlen_q=None,
        max_seqlen_kv=None, attn_mask_type=None, window_size=None, bottom_right_diagonal=None, softcap=None,
        checkpoint_core_attention=False, core_attention_bias_type="no_bias", core_attention_bias=None,
        alibi_slopes=None, fast_zero_fill=True, inference_params=None, pad_between_seqs=None, fp8_output=False,
        bf16_backward=False, num_splits=1, score_mod=None, score_mod_bprop=None, score_mod_tensors=None,
        score_mod_bprop_tensors=None, qkv_layer=None, kv_layer=None, qkv_interleave_dim=-3,
        thd_attention_policies=None, thd_attention_policy_dispatch="auto",
    ):  # fmt: skip
        assert self.heads[:2] == (query_layer.shape[-2], key_layer.shape[-2])
        assert (core_attention_bias_type == "alibi") == (alibi_slopes is not None)
        named = {"scale": self.scale, "slopes": alibi_slopes, "window": self.window, "softcap": self.softcap}
        if self.format == "thd":
            assert self.mask == "padding"
            output = ragged(query_layer, key_layer, value_layer, cu_seqlens_q, cu_seqlens_kv, **named)
            return output.flatten(-2)
        if self.mask == "padding":
            return self._padded(query_layer, key_layer, value_layer, cu_seqlens_q, cu_seqlens_kv, named)
        # In Transformer Engine, the mask `causal` is top-left aligned.
        if self.mask == "causal" and query_layer.shape[1] != key_layer.shape[1]:
            named["hidden"] = torch.ones(query_layer.shape[1], key_layer.shape[1]).triu(1).bool()
        named["causal"] = self.mask == "causal_bottom_right"
        assert self.mask in ("no_mask", "causal", "causal_bottom_right")
        return batched(query_layer, key_layer, value_layer, **named).flatten(-2)

    @staticmethod
    def _padded(query, key, value, query_starts, key_starts, named):
        assert (query_starts[1:] - query_starts[:-1] == query.shape[1]).all()
        lengths = key_starts[1:] - key_starts[:-1]
        sequences = zip(query, key, value, lengths, strict=True)
        return torch.stack([dense(q, k[:n], v[:n], **named) for q, k, v, n in sequences]).flatten(-2)


def install(monkeypatch):
    """Replace the libraries with the fakes, and make torch report a GPU of compute capability 9.0."""
    import torch.nn.attention.varlen as torch_varlen

    modules = {
        "flash_attn": {},
        "flash_attn.flash_attn_interface": {
            "flash_attn_func": flash_attn_2_func,
            "flash_attn_varlen_func": flash_attn_2_varlen_func,
            "flash_attn_with_kvcache": flash_attn_2_with_kvcache,
        },
        "flash_attn_interface": {
            "flash_attn_func": flash_attn_3_func,
            "flash_attn_varlen_func": flash_attn_3_varlen_func,
        },
        "flash_attn.cute": {"flash_attn_func": flash_attn_4_func, "flash_attn_varlen_func": flash_attn_4_varlen_func},
        "sageattention": {"sageattn": sageattn},
        "flashinfer": {
            "BatchPrefillWithRaggedKVCacheWrapper": BatchPrefillWithRaggedKVCacheWrapper,
            "BatchDecodeWithPagedKVCacheWrapper": BatchDecodeWithPagedKVCacheWrapper,
        },
        "transformer_engine": {},
        "transformer_engine.pytorch": {"DotProductAttention": DotProductAttention},
    }
    for name, contents in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(contents)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(torch_varlen, "varlen_attn", varlen_attn)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
