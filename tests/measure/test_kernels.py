"""Kernels are attributed to the backend that they belong to."""

import ast
from pathlib import Path

import pytest

import attnbench_variants
from attnbench.measure.kernels import KNOWN_NAMES, ProfiledEvent, backend_of, describe

# Names of kernels in public profiles and sources of the libraries, shortened in the middle of long template arguments.
RECORDED = {
    "cudnn": [
        "cudnn_generated_fort_native_sdpa_sm80_flash_fprop_wmma_f16_knob_3_64x64x128_4x1x1_kernel0_0",
        "cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_26_64x64x128",
        "cudnn_generated_fort_native_sdpa_sm100_flash_fprop_f16",
        "aten::_scaled_dot_product_cudnn_attention",
    ],
    "flash": [
        "void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<128, 64, 64, 4>, false>(params)",
        "void flash_fwd_kernel<Flash_fwd_kernel_traits<(int)128, (int)128, (int)32>>(Flash_fwd_params)",
        "void pytorch_flash::flash_fwd_splitkv_kernel<traits>(params)",
        "void pytorch_flash::flash_fwd_splitkv_combine_kernel<traits>(params)",
        "void flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits<(int)64>>(Flash_bwd_params)",
        "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<flash::CollectiveMainloop>>>",
        "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnBwdSm90<flash::CollectiveMainloopBwdSm90>>>",
        "void cutlass::device_kernel<flash::FlashAttnFwdCombine<cute::tuple<cute::C<8>>>>",
        "kernel_cutlass_kernel_flash_attncuteflash_fwd_sm100FlashAttentionForwardSm100_object_at__tensor0000o11101213",
        "kernel_cutlass_kernel_flash_attncuteflash_fwd_sm120FlashAttentionForwardSm120_object_at__tensorptrbf16gmem",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
    ],
    "efficient": [
        "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<cutlass::bfloat16_t>)",
        "fmha_cutlassF_f32_aligned_64x64_rf_sm80",
        "fmha_cutlassB_f16_aligned_64x64_k64_dropout_sm80(AttentionBackwardKernel)",
        "void cutlass::device_kernel<cutlass::fmha::kernel::Sm100FmhaFwdKernelTmaWarpspecialized<Mainloop>>",
    ],
    "flashinfer": [
        "void flashinfer::BatchPrefillWithRaggedKVCacheKernel<flashinfer::KernelTraits<(flashinfer::MaskMode)1, 128u>>",
        "BatchDecodeWithPagedKVCacheKernel",
        "void flashinfer::PrefillWithKVCacheKernel<flashinfer::AttentionKernelTraits<true, 256, 256, 128, 64, 2>>",
    ],
    "sage": [
        "void qk_int_sv_f16_attn_kernel<128u, 64u>(signed char*)",
        "qk_int8_sv_f8_attn_kernel",
        "quant_per_block_int8_kernel",
    ],
    "flex": ["triton_tem_fused_flex_attention_0", "triton_tem_fused_flex_attention_backward_2"],
    "triton": ["_fwd_kernel_splitK", "_splitK_reduce", "_attn_fwd", "_attn_bwd_dk_dv", "triton_poi_fused_exp_0"],
    "composed": [
        "nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NNT",
        "nvjet_tst_128x256_64x6_2x1_2cta_v_bz_TNT",
        "nvjet_sm100_tst_64x32_64x16_2x1_2cta_v_bz_TNN",
        "void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float, float, float>(float*, int)",
        "void at::native::(anonymous namespace)::cunn_SoftMaxForwardGmem<4, float, float, float>(float*)",
        "void (anonymous namespace)::softmax_warp_forward<float, float, float, 8, false, false>(float*)",
        "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_tn",
        "void cutlass::Kernel2<cutlass_80_simt_sgemm_256x128_8x4_nn_align1>(T1::Params)",
        "volta_sgemm_128x64_tn",
    ],
}


@pytest.mark.parametrize(
    ("backend", "name"), [(backend, name) for backend, names in RECORDED.items() for name in names]
)
def test_recorded_names(backend, name):
    """A name that was recorded in a profile belongs to the backend that runs it."""
    assert backend_of((name,)) == backend


def test_every_backend_but_math_has_recorded_names():
    """For each backend that has kernels on CUDA, some names are recorded in this file."""
    assert {known.backend for known in KNOWN_NAMES} - {"math"} == set(RECORDED)


@pytest.mark.parametrize(
    ("names", "backend"),
    [
        (["void at::native::vectorized_elementwise_kernel<4>", RECORDED["composed"][0], RECORDED["flash"][0]], "flash"),
        ([RECORDED["composed"][0], RECORDED["composed"][3], "void at::native::masked_fill"], "composed"),
        (["quant_per_block_int8_kernel", "_attn_fwd"], "sage"),
        (["void at::native::vectorized_elementwise_kernel<4>"], None),
    ],
    ids=["flash", "naive on Hopper", "sage 1", "unknown"],
)
def test_a_fused_kernel_outweighs_its_helpers(names, backend):
    """A call with a fused kernel belongs to this kernel's backend, even if it also runs plain operators."""
    events = [ProfiledEvent(name, at, "cuda") for at, name in enumerate(names)]
    assert describe(events, "cuda:0").backend == backend


def test_the_kernels_of_triton_flash_are_known():
    """Each kernel that `triton-flash` launches is attributed to Triton."""
    folder = Path(attnbench_variants.__file__).parent / "triton_flash"
    kernels = [
        node.name
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_kernel")
    ]
    assert len(kernels) >= 4
    assert {backend_of((name,)) for name in kernels} == {"triton"}
