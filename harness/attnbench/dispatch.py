"""Run-time dispatch: compute attention with the variant that was fastest in measurements on this machine.

A dispatch table is a file with the output of `attnbench best --json`, or a folder of runs. The argument `table` gives
its path. If `table` is None, the path is the value of the environment variable ATTNBENCH_TABLE or, if this variable is
not set, the `results` folder.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from attnbench.analysis.dispatch_table import Region, from_json, pick, regions
from attnbench.device_names import device_type
from attnbench.errors import UsageError, describe
from attnbench.plan.devices import list_devices
from attnbench.plugins.loading import Plugin, entry_point_sources, load_all
from attnbench.tensors.inputs import Inputs, alibi_slopes
from attnbench.workloads.mask import Mask
from attnbench.workloads.workload import Workload

if TYPE_CHECKING:
    from attnbench.plugins.variant import Variant

TABLE_VARIABLE = "ATTNBENCH_TABLE"
DEFAULT_TABLE = "results"


def best(workload: Workload, device: str | None = None, table: str | Path | None = None) -> str:
    """Return the name of the variant that was fastest on this machine for the shape of `workload` or the nearest shape.

    `device` is 'cpu', 'cuda' or 'cuda:N'. If it is None, the GPU is used if there is one, and the CPU otherwise. If the
    exact shape of `workload` was not measured, the result of the nearest measured shape with the same mask, direction,
    dtype and head_dim is used. Raises UsageError if there is no such shape.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return _region(workload, device, table).variant


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    mask: str | Mask = "none",
    scale: float | None = None,
    softcap: float | None = None,
    alibi: bool = False,
    table: str | Path | None = None,
) -> torch.Tensor:
    """Compute attention with the variant that was fastest in measurements.

    `query` is (B, Hq, Sq, D), `key` is (B, Hkv, Sk, D) and `value` is (B, Hkv, Sk, Dv); the output is (B, Hq, Sq, Dv).
    `mask` is `none`, `causal` (bottom-right aligned), `causal-top-left`, `window:L:R` or `prefix:N`. If the fastest
    variant does not support the workload, the next variant in the dispatch table is used. The first call loads the
    variants, which runs the code of installed plugins. Raises UsageError if no similar workload was measured, or if no
    variant in the table supports the workload.
    """
    workload = _workload(query, key, value, mask=mask, scale=scale, softcap=softcap, alibi=alibi)
    device = str(query.device)
    variant = _variant(workload, device, table)
    swapped = variant.layout == "BSHD"
    if swapped:
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    slopes = alibi_slopes(workload.heads).to(query.device) if alibi else None
    output = variant.prepare(workload, Inputs(variant.layout, query, key, value, alibi_slopes=slopes))()
    return output.transpose(1, 2) if swapped else output


@functools.lru_cache(maxsize=4096)
def _variant(workload: Workload, device: str, table: str | Path | None) -> Variant:
    """Return the first variant in the table's order that is installed and supports the workload.

    Raises UsageError if there is no such variant.
    """
    region, installed = _region(workload, device, table), _installed()
    reasons = []
    for name in region.order:
        variant = installed.get(name)
        reason = "not installed" if variant is None else variant.unsupported_reason(workload, device_type(device))
        if variant is not None and reason is None:
            return variant
        reasons.append(f"{name} ({reason})")
    raise UsageError(f"no variant of the dispatch table supports {workload.id}: {', '.join(reasons)}")


def _region(workload: Workload, device: str, table: str | Path | None) -> Region:
    source = str(table or os.environ.get(TABLE_VARIABLE) or DEFAULT_TABLE)
    name = _device_name(device)
    candidates = [
        region for region in _table(source) if (region.setting["device_name"], region.setting["mode"]) == (name, "hot")
    ]
    found = pick(candidates, _shape(workload))
    if found is None:
        raise UsageError(
            f"no workload similar to {workload.id} was measured on {name} in {source!r}: measure it with "
            f"`attnbench run`, or set {TABLE_VARIABLE} to another table"
        )
    return found


@functools.lru_cache(maxsize=8)
def _table(source: str) -> tuple[Region, ...]:
    path = Path(source)
    if path.is_dir():
        from attnbench.analysis.results import Results

        return tuple(regions(Results.load(path)))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"dispatch table {source!r} can't be read: {describe(error)}") from None
    return tuple(from_json(content if isinstance(content, dict) else {}))


@functools.lru_cache(maxsize=64)
def _device_name(device: str) -> str:
    if device_type(device) == "cuda":
        return torch.cuda.get_device_name(device)
    return next(found.model for found in list_devices() if found.kind == "cpu")


@functools.lru_cache(maxsize=1)
def _installed() -> dict[str, Variant]:
    loaded = (outcome for _, outcome in load_all(entry_point_sources(), {}))
    return {variant.name: variant for plugin in loaded if isinstance(plugin, Plugin) for variant in plugin.variants}


def _workload(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    mask: str | Mask,
    **extras: Any,
) -> Workload:
    mask = Mask.parse(mask) if isinstance(mask, str) else mask
    if mask.is_seeded:
        raise UsageError(
            f"mask {mask} has random lengths and is only for benchmarks: choose a mask without random lengths"
        )
    if not query.dim() == key.dim() == value.dim() == 4:
        raise UsageError("query, key and value must have four dimensions: (batch, heads, sequence, head_dim)")
    batch, heads, seq_q, head_dim = query.shape
    training = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
    return Workload(
        batch=batch,
        heads=heads,
        kv_heads=key.shape[1],
        seq_q=seq_q,
        seq_k=key.shape[2],
        head_dim=head_dim,
        head_dim_v=value.shape[3],
        dtype=str(query.dtype).removeprefix("torch."),
        mask=mask,
        direction="forward_backward" if training else "forward",
        **extras,
    )


def _shape(workload: Workload) -> dict[str, Any]:
    decode = workload.seq_q == 1 < workload.seq_k
    form = "self" if workload.seq_q == workload.seq_k else "decode" if decode else "cross"
    return {**workload.to_json(), "mode": "hot", "form": form, "length": max(workload.seq_q, workload.seq_k)}
