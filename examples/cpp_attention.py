"""Attention as a C++ extension, which is built on its first use and makes one pass over the keys for each row.

To time it: `attnbench run -p examples/cpp_attention.py -v example-cpp,naive`. The first use compiles the extension with
torch.utils.cpp_extension. This takes half a minute, which is not timed, and torch caches the result. The softmax of
each row is computed online, as in Milakov and Gimelshein, 2018, arXiv:1805.02867, so no scores are stored.
"""

import functools
import shutil

import torch
from torch.utils.cpp_extension import load_inline

from attnbench import Variant, hookimpl

SOURCE = """
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>
#include <cmath>
#include <limits>
#include <vector>

// query (B, Hq, Sq, D), key (B, Hkv, Sk, D), value (B, Hkv, Sk, Dv), float32 -> (B, Hq, Sq, Dv)
at::Tensor attention(const at::Tensor& any_query, const at::Tensor& any_key, const at::Tensor& any_value,
                     double scale, bool causal) {
  // The inputs may be views with any strides, but the loops below need contiguous rows.
  const at::Tensor query = any_query.contiguous(), key = any_key.contiguous(), value = any_value.contiguous();
  const int64_t batch = query.size(0), heads = query.size(1), seq_q = query.size(2), width = query.size(3);
  const int64_t kv_heads = key.size(1), seq_k = key.size(2), width_v = value.size(3);
  auto output = at::zeros({batch, heads, seq_q, width_v}, query.options());
  const float *q = query.const_data_ptr<float>(), *k = key.const_data_ptr<float>(), *v = value.const_data_ptr<float>();
  float* out = output.mutable_data_ptr<float>();
  at::parallel_for(0, batch * heads * seq_q, 16, [&](int64_t begin, int64_t end) {
    std::vector<double> sum(width_v);  // with tens of thousands of keys, a float would lose digits
    for (int64_t row = begin; row < end; ++row) {
      const int64_t head = row / seq_q, i = row % seq_q;
      const int64_t kv_head = head / heads * kv_heads + head % heads / (heads / kv_heads);
      const float* q_row = q + row * width;
      const float *keys = k + kv_head * seq_k * width, *values = v + kv_head * seq_k * width_v;
      const int64_t last = causal ? std::min(seq_k, i + seq_k - seq_q + 1) : seq_k;
      float largest = -std::numeric_limits<float>::infinity();
      double total = 0;
      std::fill(sum.begin(), sum.end(), 0.);
      for (int64_t j = 0; j < last; ++j) {
        float score = 0;
#pragma omp simd reduction(+ : score)
        for (int64_t d = 0; d < width; ++d) score += q_row[d] * keys[j * width + d];
        score *= static_cast<float>(scale);
        if (score > largest) {
          const double decay = std::exp(largest - score);
          largest = score;
          total *= decay;
          for (auto& element : sum) element *= decay;
        }
        const float weight = std::exp(score - largest);
        total += weight;
        for (int64_t d = 0; d < width_v; ++d) sum[d] += weight * values[j * width_v + d];
      }
      for (int64_t d = 0; d < width_v; ++d) out[row * width_v + d] = total > 0 ? static_cast<float>(sum[d] / total) : 0;
    }
  });
  return output;
}

TORCH_LIBRARY(attnbench_example, library) { library.def("attention", &attention); }
"""


@functools.cache
def attention_in_cpp():
    """Build the extension if it has not been built before, and return its function."""
    load_inline(
        "attnbench_example",
        SOURCE,
        is_python_module=False,
        no_implicit_headers=True,  # including torch/extension.h would triple the build time
        extra_cflags=["-O3", "-march=native", "-fopenmp-simd"],
    )
    return torch.ops.attnbench_example.attention


class CppAttention(Variant):
    """Attention in C++, with one online pass over the keys for each row."""

    name = "example-cpp"

    def unsupported_reason(self, workload, device):  # noqa: PLR0911 - one return per reason is easiest to read
        """Return why the extension can't run the workload, or None if it can."""
        if device != "cpu":
            return "runs on the CPU only"
        if not (shutil.which("c++") and shutil.which("ninja")):
            return "needs a C++ compiler and ninja (apt-get install g++; pip install ninja)"
        if workload.dtype != "float32":
            return f"dtype {workload.dtype}: only float32"
        if workload.needs_gradient:
            return "forward only"
        if workload.mask.kind not in ("none", "causal"):
            return f"mask {workload.mask}: only none and causal"
        if workload.softcap or workload.alibi or workload.dropout:
            return "no softcap, no ALiBi, no dropout"
        return None

    def prepare_function(self, workload, inputs):
        """Build the extension, and return a function that calls it with this workload's arguments."""
        attention = attention_in_cpp()
        scale, causal = workload.effective_scale, workload.mask.is_causal
        return lambda query, key, value: attention(query, key, value, scale, causal)


@hookimpl
def attnbench_variants():
    """Return the variants that this plugin offers."""
    return [CppAttention()]
