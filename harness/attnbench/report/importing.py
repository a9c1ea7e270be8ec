"""Import results of other tools as a run.

Reports show these results but never rank them, because attnbench did not check the outputs of the timed code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.analysis.load_runs import UNCHECKED
from attnbench.errors import AttnbenchError, UsageError, describe
from attnbench.record import Record
from attnbench.store import RecordWriter, create_run, removed_on_failure
from attnbench.untrusted import parse
from attnbench.workloads.workload import AXES, Workload

NEEDED = ("heads", "seq", "head_dim")
MAX_BENCHMARKS = 100_000  # in one file
MAX_LABEL_LENGTH, MAX_REASON_LENGTH = 100, 500  # in characters, of the message about a skipped benchmark
FIELDS = tuple(name for name, axis in AXES.items() if not axis.surrounds)


@dataclass(frozen=True)
class ImportedRun:
    """An imported run: its folder, the number of imported benchmarks, and the reason for each skipped benchmark."""

    run: Path
    benchmarks: int
    skipped: tuple[str, ...]


def import_pytest_benchmark(file: Path, results: Path, name: str) -> ImportedRun:
    """Import a JSON file from pytest-benchmark as a run, with a record for each benchmark that has a shape.

    The shape is given by the fields `heads`, `seq` (or `seq_q`) and `head_dim`, and optionally by other fields of a
    workload. These fields and the field `variant` are read from the benchmark's `params` and `extra_info`. If there is
    no field `variant`, the name of the benchmark's function is used as the variant. Raises UsageError if the file
    can't be read, if no benchmark has a shape, or if the run already exists.
    """
    content = _read(file)
    machine = content.get("machine_info") if isinstance(content.get("machine_info"), dict) else {}
    started = str(content.get("datetime") or "unknown")
    records, skipped = [], []
    for index, benchmark in enumerate(content["benchmarks"]):
        try:
            records.append(_record(benchmark, index, name, machine or {}, started))
        except (AttnbenchError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
            label = str(benchmark.get("name", index) if isinstance(benchmark, dict) else index)
            skipped.append(f"{label:.{MAX_LABEL_LENGTH}}: {describe(error):.{MAX_REASON_LENGTH}}")
    if not records:
        reasons = f" ({skipped[0]})" if skipped else ""
        raise UsageError(
            f"{str(file)!r} has no benchmark that states {', '.join(NEEDED)} in params or extra_info{reasons}"
        )
    run = create_run(results, name, _manifest(file, name, started, machine or {}))
    with removed_on_failure(run):
        writer = RecordWriter(run, "imported")
        try:
            writer.append(*records)
        finally:
            writer.close()
    return ImportedRun(run, len(records), tuple(skipped))


def _read(file: Path) -> dict[str, Any]:
    try:
        content = parse(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(file)!r} can't be read as JSON: {describe(error)}") from None
    if not isinstance(content, dict) or not isinstance(content.get("benchmarks"), list):
        raise UsageError(f"{str(file)!r} is not a pytest-benchmark file: expected an object with a list 'benchmarks'")
    if len(content["benchmarks"]) > MAX_BENCHMARKS:
        raise UsageError(
            f"{str(file)!r} has {len(content['benchmarks'])} benchmarks: expected at most {MAX_BENCHMARKS}; split it"
        )
    return content


def _record(benchmark: Mapping[str, Any], index: int, run: str, machine: Mapping[str, Any], started: str) -> Record:
    details = {**(benchmark.get("extra_info") or {}), **(benchmark.get("params") or {})}
    workload = _workload(details)
    seconds = benchmark["stats"].get("data") or [benchmark["stats"]["median"]]
    variant = str(details.get("variant") or benchmark["name"].partition("[")[0])
    device = str(
        details.get("device_name") or (machine.get("cpu") or {}).get("brand_raw") or machine.get("machine") or "?"
    )
    digest = hashlib.sha256(f"{run}/{index}/{benchmark.get('fullname')}".encode()).hexdigest()
    return Record(
        record_id=digest[:32],
        run_id=run,
        cell_id=digest[:16],
        variant=variant,
        plugin="imported",
        plugin_sha256="",
        workload=workload,
        device=str(details.get("device") or "cpu"),
        device_name=device,
        environment_id=f"imported-{run}",
        protocol_id="pytest-benchmark",
        status="ok",
        phase="done",
        started_at=started,
        ended_at=started,
        mode=str(details.get("mode") or "hot"),
        samples_ns=tuple(float(second) * 1e9 for second in seconds),
        flops=workload.flops(),
        bytes=workload.bytes(),
        flags=(UNCHECKED,),
    )


def _workload(details: Mapping[str, Any]) -> Workload:
    fields = {name: details[name] for name in FIELDS if details.get(name) is not None}
    if "seq" in details:
        query, _, key = str(details["seq"]).partition("x")
        fields = {"seq_q": int(query), "seq_k": int(key or query), **fields}
    return Workload.from_json(fields)


def _manifest(file: Path, name: str, started: str, machine: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: machine[key] for key in ("node", "machine", "system", "python_version") if key in machine}
    return {"schema": 1, "run_id": name, "started_at": started, "imported_from": file.name, "machine": facts}
