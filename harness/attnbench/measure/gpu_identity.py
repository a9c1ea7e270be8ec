"""Which GPU, in NVML's words, torch calls `cuda:N`."""

from __future__ import annotations

import torch


def torch_uuid(device: str) -> str:
    """Give NVML's name of torch's device, which CUDA_VISIBLE_DEVICES does not renumber."""
    return f"GPU-{torch.cuda.get_device_properties(torch.device(device)).uuid}"
