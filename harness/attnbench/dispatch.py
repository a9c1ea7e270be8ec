"""Run-time dispatch: compute attention with the variant that was fastest in measurements on this machine.

A dispatch table is a file with the output of `attnbench best --json`, or a folder of runs. The argument `table` gives
its path. If `table` is None, the path is the value of the environment variable ATTNBENCH_TABLE or, if this variable is
not set, the `results` folder.
"""

from __future__ import annotations

import functools
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import torch

from attnbench.analysis.dispatch_table import Region, pick, read_table, regions
from attnbench.device_names import device_type
from attnbench.errors import UsageError
from attnbench.plan.devices import list_devices
from attnbench.plugins.loading import Plugin, entry_point_sources, load_all
from attnbench.plugins.variant import Variant
from attnbench.tensors.alignment import aligned_for, is_aligned, needed_alignment
from attnbench.tensors.inputs import Inputs, alibi_slopes
from attnbench.workloads.mask import Mask
from attnbench.workloads.workload import Workload

if TYPE_CHECKING:
    from attnbench.plugins.variant import AttentionFunction

TABLE_VARIABLE = "ATTNBENCH_TABLE"
DEFAULT_TABLE = "results"
# How many prepared variants are kept. Each may hold a dense mask of seq_q x seq_k bytes or the workspace of a library.
MAX_PREPARED = 32
ALIGNMENT = 16  # in bytes; settings differ by the alignment of the tensors up to this one, which most kernels need


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
    variants, which runs the code of installed plugins.

    The variant is prepared in the first call with tensors of these shapes, strides, dtype and device, and kept for the
    last 32 such settings; only a variant that defines `prepare` is prepared at each call. Tensors that are not aligned
    as the variant declares are copied. Calls may come from several threads. Raises UsageError if no similar workload
    was measured, or if no variant in the table supports the workload.
    """
    training = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    setting = (
        training, mask, scale, softcap, alibi, table or os.environ.get(TABLE_VARIABLE),
        query.shape, key.shape, value.shape, query.stride(), key.stride(), value.stride(),
        query.dtype, key.dtype, value.dtype, query.device, key.device, value.device,
        (query.data_ptr() | key.data_ptr() | value.data_ptr()) % ALIGNMENT,
        torch.is_inference_mode_enabled(), torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
    )  # fmt: skip
    function = _PREPARED.get(setting)
    if function is None:
        workload = _workload((query, key, value), training, mask=mask, scale=scale, softcap=softcap, alibi=alibi)
        function = _PREPARED.get_or_prepare(setting, lambda: _prepare(workload, (query, key, value), table))
    return function(query, key, value)


class _PreparedFunctions:
    """The functions that were prepared for the most recently used settings. Its methods may be called by any thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._functions: OrderedDict[Hashable, AttentionFunction] = OrderedDict()
        self._lock = RLock()
        self._preparing = RLock()

    def get(self, setting: Hashable) -> AttentionFunction | None:
        """Return the function for a setting, or None if it has not been prepared or is no longer kept."""
        with self._lock:
            function = self._functions.get(setting)
            if function is not None:
                self._functions.move_to_end(setting)
            return function

    def get_or_prepare(self, setting: Hashable, prepare: Callable[[], AttentionFunction]) -> AttentionFunction:
        """Return the function for a setting, and prepare it if no other thread has. One thread prepares at a time."""
        with self._preparing:
            function = self.get(setting)
            if function is None:
                function = prepare()
                with self._lock:
                    self._functions[setting] = function
                    while len(self._functions) > self._size:
                        self._functions.popitem(last=False)
            return function

    def clear(self) -> None:
        """Discard all functions."""
        with self._lock:
            self._functions.clear()


_PREPARED = _PreparedFunctions(MAX_PREPARED)
# Calling contexts set flags of the whole process, so threads enter them one at a time.
_IN_CALLING_CONTEXT = RLock()


def _prepare(
    workload: Workload, tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor], table: str | Path | None
) -> AttentionFunction:
    """Return a function of query, key and value in layout BHSD that calls the fastest variant.

    The variant gets other tensors than the caller's, in the caller's memory, so that it is outside the caller's graph.
    """
    variant = _variant(workload, str(tensors[0].device), table)
    swapped = variant.layout == "BSHD"
    slopes = alibi_slopes(workload.heads).to(tensors[0].device) if workload.alibi else None

    def inputs_of(leaves: tuple[torch.Tensor, ...], grad_output: torch.Tensor | None = None) -> Inputs:
        query, key, value = leaves
        return Inputs(variant.layout, query, key, value, grad_output, alibi_slopes=slopes)

    given = tuple(each.transpose(1, 2) if swapped else each for each in tensors)
    if type(variant).prepare is Variant.prepare:
        training = workload.needs_gradient
        leaves = tuple(each.detach().requires_grad_(training) for each in aligned_for(variant, *given))
        grad_output = leaves[0].new_ones((*leaves[0].shape[:3], workload.head_dim_v)) if training else None
        with _IN_CALLING_CONTEXT, variant.calling_context():
            function = variant.prepare_function(workload, inputs_of(leaves, grad_output))
    else:
        function = lambda *leaves: variant.prepare(workload, inputs_of(leaves))()  # noqa: E731 - one of two functions
    function = _in_calling_context(variant, function)
    needed = needed_alignment(variant, tensors[0].device.type)
    if needed > ALIGNMENT or not all(is_aligned(each, needed) for each in given):
        function = _with_aligned_tensors(variant, function)
    return _in_bshd(function) if swapped else function


def _in_calling_context(variant: Variant, function: AttentionFunction) -> AttentionFunction:
    """Return a function that enters the variant's calling context at each call, if the variant has one."""
    if type(variant).calling_context is Variant.calling_context:
        return function

    def call(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        with _IN_CALLING_CONTEXT, variant.calling_context():
            return function(query, key, value)

    return call


def _with_aligned_tensors(variant: Variant, function: AttentionFunction) -> AttentionFunction:
    """Return a function that copies the tensors that are not aligned as the variant declares."""
    return lambda *leaves: function(*aligned_for(variant, *leaves))


def _in_bshd(function: AttentionFunction) -> AttentionFunction:
    """Return a function of tensors in layout BHSD that calls a function of tensors in layout BSHD."""
    return lambda *leaves: function(*(leaf.transpose(1, 2) for leaf in leaves)).transpose(1, 2)


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
    return tuple(read_table(path))


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
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor], training: bool, *, mask: str | Mask, **extras: Any
) -> Workload:
    query, key, value = tensors
    mask = Mask.parse(mask) if isinstance(mask, str) else mask
    if mask.is_seeded:
        raise UsageError(
            f"mask {mask} has random lengths and is only for benchmarks: choose a mask without random lengths"
        )
    if not query.dim() == key.dim() == value.dim() == 4:
        raise UsageError("query, key and value must have four dimensions: (batch, heads, sequence, head_dim)")
    for name in ("dtype", "device"):
        if len({getattr(tensor, name) for tensor in tensors}) > 1:
            found = ", ".join(str(getattr(tensor, name)) for tensor in tensors)
            raise UsageError(f"query, key and value must have the same {name}, got {found}")
    batch, heads, seq_q, head_dim = query.shape
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
