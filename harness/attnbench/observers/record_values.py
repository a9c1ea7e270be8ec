"""Conversion of a record into the parameters and metrics that experiment trackers log."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from attnbench.workloads.workload import Workload

DESCRIPTIVE_FIELDS = ("cell_id", "variant", "plugin", "device", "device_name", "status", "mode", "reason")


def parameters(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the descriptive fields of a record and of its workload as strings. Missing values are left out."""
    about = {name: record.get(name) for name in DESCRIPTIVE_FIELDS}
    workload = Workload.from_json(record["workload"])
    return {
        name: str(value)
        for name, value in {**about, "workload": workload.id, **workload.to_json()}.items()
        if value is not None
    }


def metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record: `latency_ms` (median), `samples`, `tflops`, `peak_bytes` and so on.

    Missing values are left out. For example, the record of an incorrect variant has no samples and therefore no
    latency.
    """
    samples = record.get("samples_ns") or record.get("cold_samples_ns")
    error = record.get("error") or {}
    numbers = {
        "peak_bytes": record.get("peak_bytes"),
        "saved_bytes": record.get("saved_bytes"),
        "first_call_ms": _scaled(record.get("first_call_ns"), 1e-6),
        "error_ratio": error.get("worst_ratio"),
    }
    if samples:
        median_ns = statistics.median(samples)
        numbers |= {"latency_ms": median_ns / 1e6, "samples": len(samples)}
        numbers["tflops"] = _scaled(record.get("flops"), 1e-3 / median_ns)
    return {name: float(value) for name, value in numbers.items() if value is not None}


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
