"""Variants that fail in ways typical of GPU code, and a working variant that their failures must not affect.

No variant runs forever or writes to memory that it does not own, because other people may use the same GPU.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import hookimpl, variant


@variant("fault-a-out-of-memory")
def out_of_memory(query, key, value, workload):
    """Try to allocate 64 TiB."""
    return torch.empty(1 << 46, dtype=torch.uint8, device=query.device)


@variant("fault-b-index")
def wrong_index(query, key, value, workload):
    """Index a tensor out of bounds, which triggers a device-side assertion on a GPU."""
    wrong = torch.full((1,), 1 << 20, device=query.device)
    return scaled_dot_product_attention(query, key, value) + query[:, :, wrong].sum()


@variant("fault-c-none")
def works(query, key, value, workload):
    """Compute attention with SDPA."""
    return scaled_dot_product_attention(query, key, value)


@hookimpl
def attnbench_variants():
    """Return this plugin's variants."""
    return [out_of_memory, wrong_index, works]
