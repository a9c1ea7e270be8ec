"""Variants that fail in ways typical of GPU code, and a working variant that their failures must not affect."""

import torch
import triton
import triton.language as tl

from attnbench import hookimpl, variant


@triton.jit
def write_out_of_bounds(pointer):
    """Write to the address 1 TiB past the pointer."""
    tl.store(pointer + (1 << 38), 1.0)


@variant("fault-a-illegal-access")
def illegal_access(query, key, value, workload):
    """Write to memory that the process does not own."""
    write_out_of_bounds[(1,)](torch.zeros(1, device=query.device))
    torch.cuda.synchronize()
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


@variant("fault-b-out-of-memory")
def out_of_memory(query, key, value, workload):
    """Try to allocate 64 TiB of device memory."""
    return torch.empty(1 << 46, dtype=torch.uint8, device=query.device)


@variant("fault-c-endless")
def endless(query, key, value, workload):
    """Start a kernel that runs for hours."""
    torch.cuda._sleep(1 << 44)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


@variant("fault-d-assert")
def device_assert(query, key, value, workload):
    """Index a tensor out of bounds, which triggers a device-side assertion."""
    wrong = torch.full((1,), 1 << 20, device=query.device)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value) + query[:, :, wrong].sum()


@variant("fault-e-none")
def works(query, key, value, workload):
    """Compute attention with SDPA."""
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


@hookimpl
def attnbench_variants():
    """Return this plugin's variants."""
    return [illegal_access, out_of_memory, endless, device_assert, works]
