"""Compile flash-attn 4's kernels for Hopper without a GPU.

The script reads workloads as JSON from stdin and writes one verdict per line to stdout.

The installed package checks the arguments and compiles the kernels. The tensors have shapes but no contents, and no
kernel runs. The script runs in a separate process because the package reads its target GPU from the environment when
the package is imported.
"""

import functools
import json
import sys
import warnings


class Context:
    """A stand-in for the context of an autograd function, needed because autograd does not accept fake CUDA tensors."""

    needs_input_grad = (True,) * 64

    def save_for_backward(self, *tensors):
        """Save tensors for the backward pass."""
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors):
        """Do nothing, because no gradients are propagated."""

    def set_materialize_grads(self, value):
        """Do nothing, because no gradients are propagated."""


def main() -> None:
    """Compile the kernels for each workload and print its verdict."""
    import torch
    from flash_attn.cute import interface
    from torch._subclasses.fake_tensor import FakeTensorMode

    from attnbench import Workload
    from attnbench.tensors.inputs import Inputs
    from attnbench_variants import _packing, flash_attention

    def starts(lengths, device):
        return torch.empty(len([*lengths]) + 1, dtype=torch.int32, device=device)

    def with_statistics(forward):
        @functools.wraps(forward)
        def call(*arguments, **named):
            return forward(*arguments, **{**named, "return_lse": True})

        return call

    def pass_both_ways(function, backward):
        def apply(*arguments):
            context = Context()
            outputs = function.forward(context, *arguments)
            if backward:
                function.backward(context, torch.empty_like(outputs[0]), None)
            return outputs

        return apply

    _packing._starts = starts  # the original function calls torch.tensor, which can't create fake tensors
    interface._flash_attn_fwd = with_statistics(interface._flash_attn_fwd)
    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    variant = next(each for each in flash_attention.attnbench_variants() if each.name == "flash-attn-4")
    for fields in json.load(sys.stdin):
        w = Workload.from_json(fields)
        dtype = getattr(torch, w.dtype)
        for function in (interface.FlashAttnFunc, interface.FlashAttnVarlenFunc):
            function.apply = pass_both_ways(function, w.needs_gradient)
        error = None
        try:
            with FakeTensorMode():
                query, key, value = (
                    torch.empty(w.batch, length, heads, width, dtype=dtype, device="cuda")
                    for length, heads, width in (
                        (w.seq_q, w.heads, w.head_dim),
                        (w.seq_k, w.kv_heads, w.head_dim),
                        (w.seq_k, w.kv_heads, w.head_dim_v),
                    )
                )
                output = variant.prepare(w, Inputs("BSHD", query, key, value))()
                assert output.shape == (w.batch, w.seq_q, w.heads, w.head_dim_v)
        except Exception as raised:  # noqa: BLE001 - any exception of the library means that it does not compile
            error = f"{type(raised).__name__}: {raised}"
        refused = variant.unsupported_reason(w, "cuda")
        print(json.dumps({"id": w.id, "refused": refused, "error": error}), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
