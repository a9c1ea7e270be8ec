"""Variants that fail as GPU code can; between them one that works, whose cells must be fine."""

import torch
import triton
import triton.language as tl

from attnbench import hookimpl, variant


@triton.jit
def write_wild(pointer):
    """Write a terabyte behind the pointer."""
    tl.store(pointer + (1 << 38), 1.0)


@variant("fault-a-illegal-access")
def illegal_access(query, key, value, workload):
    """Touch memory that is not the program's."""
    write_wild[(1,)](torch.zeros(1, device=query.device))
    torch.cuda.synchronize()
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


@variant("fault-b-out-of-memory")
def out_of_memory(query, key, value, workload):
    """Ask for 64 TiB."""
    return torch.empty(1 << 46, dtype=torch.uint8, device=query.device)


@variant("fault-c-endless")
def endless(query, key, value, workload):
    """Start a kernel that runs for hours."""
    torch.cuda._sleep(1 << 44)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


@variant("fault-d-assert")
def device_assert(query, key, value, workload):
    """Index out of bounds, which a device-side assertion catches."""
    wrong = torch.full((1,), 1 << 20, device=query.device)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value) + query[:, :, wrong].sum()


@variant("fault-e-none")
def works(query, key, value, workload):
    """Do it right."""
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


@hookimpl
def attnbench_variants():
    """Offer them."""
    return [illegal_access, out_of_memory, endless, device_assert, works]
