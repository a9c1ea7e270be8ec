"""Create synthetic runs: folders like those of `attnbench run`, with latencies from a simple model of a machine.

The duration of a call is the launch latency plus the time for arithmetic or for memory traffic, whichever is larger.
Within a round, all variants have the same drift, as on a real machine. The noise of each sample is independent. Nothing
is measured.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.device_names import device_type
from attnbench.record import Record
from attnbench.workloads.cost import DTYPE_BYTES
from attnbench.workloads.workload import NO_MASK, Workload


@dataclass(frozen=True)
class Machine:
    """The properties of a synthetic device.

    - `device`, `name`: the device's name, e.g. `cuda:0`, and its model
    - `matmul_flops`, `copy_bytes`: peak rates in FLOP/s and bytes/s
    - `launch_ns`: the launch latency in ns
    - `memory_bytes`: the size of the memory
    """

    device: str
    name: str
    matmul_flops: float
    copy_bytes: float
    launch_ns: float
    memory_bytes: float


CPU = Machine("cpu", "AMD EPYC 7B13", 1.2e11, 1.4e10, 9_000, 8e9)
H200 = Machine("cuda:0", "NVIDIA H200", 7.2e14, 3.9e12, 5_000, 1.4e11)
A100 = Machine("cuda:0", "NVIDIA A100-SXM4-80GB", 2.5e14, 1.7e12, 6_000, 8e10)


@dataclass(frozen=True)
class Kind:
    """The properties of a synthetic variant.

    - `efficiency`: the share of the peak rate that the variant reaches
    - `stores_scores`: whether the variant stores the scores in memory
    - `skips_masked`: whether the variant skips masked scores
    - `linear`: whether the variant's FLOPs grow linearly with the length
    - `status`, `reason`: the status and reason of the variant's records
    """

    efficiency: float
    stores_scores: bool = False
    skips_masked: bool = True
    exact: bool = True
    tier: str = "fused"
    status: str = "ok"
    reason: str | None = None
    linear: bool = False


KINDS = {
    "naive": Kind(0.22, stores_scores=True, skips_masked=False, tier="plain"),
    "sdpa": Kind(0.62),
    "sdpa-flash": Kind(0.62),
    "sdpa-math": Kind(0.2, stores_scores=True, skips_masked=False),
    "chunked": Kind(0.45),
    "xformers": Kind(0.58, status="unsupported", reason="xformers has no operator for device cpu"),
    "forgets-a-key": Kind(0.7, status="incorrect", reason="output differs from the fp64 reference: worst row 41.3"),
    "segfaults": Kind(0.5, status="crash", reason="worker died of SIGSEGV in phase measure"),
    "hangs": Kind(0.5, status="timeout", reason="no reply within the deadline of phase prepare"),
    "linear-attention": Kind(0.5, exact=False, linear=True),
}
DEFAULT_VARIANTS = (
    "naive",
    "sdpa",
    "sdpa-flash",
    "chunked",
    "xformers",
    "forgets-a-key",
    "segfaults",
    "linear-attention",
)


def workloads(
    seqs: Iterable[int] = (256, 512, 1024, 2048),
    masks: Iterable[str] = ("none", "causal"),
    directions: Iterable[str] = ("forward", "forward_backward"),
    batches: Iterable[int] = (1,),
    dtypes: Iterable[str] = ("float32",),
    *,
    heads: int = 8,
    head_dim: int = 64,
) -> list[Workload]:
    """Return one workload for each combination of the axes."""
    return [
        Workload.from_json(
            {
                "batch": batch,
                "heads": heads,
                "seq_q": seq,
                "head_dim": head_dim,
                "dtype": dtype,
                "mask": mask,
                "direction": direction,
            }
        )
        for dtype, direction, mask, batch, seq in itertools.product(dtypes, directions, masks, batches, seqs)
    ]


def true_ns(variant: str, workload: Workload, machine: Machine) -> float:
    """Return the duration of one call in ns, without noise."""
    kind = KINDS.get(variant, Kind(0.3 + int(hashlib.sha256(variant.encode()).hexdigest(), 16) % 40 / 100))
    flops = workload.flops() if kind.skips_masked else dataclasses.replace(workload, mask=NO_MASK).flops()
    if kind.linear:
        flops = flops // max(1, workload.seq_k) * workload.head_dim
    moved = workload.bytes() + (3 * _score_bytes(workload) if kind.stores_scores else 0)
    busy = max(flops / (machine.matmul_flops * kind.efficiency), moved / machine.copy_bytes)
    return machine.launch_ns + busy * 1e9


def peak_bytes(variant: str, workload: Workload) -> int:
    """Return the peak memory of one call in bytes, excluding the inputs."""
    output = workload.batch * workload.heads * workload.seq_q * workload.head_dim_v * DTYPE_BYTES[workload.dtype]
    return output + (2 * _score_bytes(workload) if KINDS.get(variant, Kind(0.5)).stores_scores else 0)


def make_run(
    folder: Path,
    *,
    name: str = "20260101-120000",
    variants: Sequence[str] = DEFAULT_VARIANTS,
    cells: Iterable[Workload] | None = None,
    machine: Machine = CPU,
    baseline: str | None = "sdpa",
    slower: dict[str, float] | None = None,
    noise: float = 0.01,
    drift: float = 0.02,
    rounds: int = 10,
    processes: int = 5,
    block: int = 3,
    seed: int = 0,
    started: str = "2026-01-01T12:00:00+00:00",
    replace: dict[str, object] | None = None,
    disturbed: dict[str, float] | None = None,
) -> Path:
    """Write the folder of a synthetic run and return its path.

    - `slower`: the factors, by variant, by which latencies are multiplied
    - `noise`, `drift`: the relative noise of a sample, and the amplitude of the relative drift over the rounds
    - `rounds`, `processes`: the number of rounds, and of processes that share them
    - `block`: the number of samples in a block
    - `replace`: fields to override in every record
    - `disturbed`: the share, by variant, of blocks in which others had the cores, so that calls took twice as long
    """
    run = folder / name
    (run / "logs").mkdir(parents=True)
    cells = workloads() if cells is None else list(cells)
    source = random.Random(seed)  # noqa: S311 - simulated noise
    names = [*variants, *([f"{baseline}"] if baseline else [])]
    lines = []
    for workload in cells:
        shared = [1 + drift * math.sin(index + seed) for index in range(rounds)]
        for position, variant in enumerate(names):
            record = _record(run, variant, workload, machine, control=position == len(variants))
            base = true_ns(variant, workload, machine) * (slower or {}).get(variant, 1.0)
            times = [base * drifted * math.exp(source.gauss(0, noise)) for drifted in shared for _ in range(block)]
            record = _outcome(record, times, block, processes, machine, started)
            record = _under_load(record, (disturbed or {}).get(variant, 0.0))
            record = dataclasses.replace(record, **(replace or {}))
            if record.log:
                (run / record.log).write_text(f"worker 1234: {variant}\n{record.reason}\n", encoding="utf-8")
            lines.append(record.to_line())
    (run / "records-cpu-0.jsonl").write_text("".join(lines), encoding="utf-8")
    (run / "manifest.json").write_text(json.dumps(_manifest(name, names, cells, machine, started)))
    return run


def _under_load(record: Record, share: float) -> Record:
    """Return a record in which others had the cores in a share of the blocks, which are spread evenly."""
    if record.status != "ok" or not share:
        return record
    samples, blocks, sizes = list(record.samples_ns), list(record.telemetry["blocks"]), record.block_sizes
    for index, block in enumerate(blocks):
        if int((index + 1) * share) > int(index * share):
            blocks[index] = {**block, "throttle": ["foreign_load"], "cores_used": 1.0, "waited": 1.0}
            start = sum(sizes[:index])
            samples[start : start + sizes[index]] = [2 * ns for ns in samples[start : start + sizes[index]]]
    return dataclasses.replace(record, samples_ns=tuple(samples), telemetry={**record.telemetry, "blocks": blocks})


def _score_bytes(workload: Workload) -> int:
    return workload.batch * workload.heads * workload.seq_q * workload.seq_k * DTYPE_BYTES[workload.dtype]


def _digest(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:16]


def _record(run: Path, variant: str, workload: Workload, machine: Machine, *, control: bool) -> Record:
    kind = KINDS.get(variant, Kind(0.5))
    cell = _digest(variant, workload.id, machine.name)
    return Record(
        record_id=_digest(run.name, variant, workload.id, machine.name, control),
        run_id=run.name,
        cell_id=cell,
        variant=variant,
        plugin="builtin",
        plugin_sha256=_digest("plugin", variant),
        workload=workload,
        device=machine.device,
        device_name=machine.name,
        environment_id=_digest("environment", machine.name),
        protocol_id=_digest("protocol"),
        status="error",
        phase="measure",
        reason="not yet decided",
        started_at="",
        ended_at="",
        control=control,
        tier=kind.tier,
        exact=kind.exact,
        flops=workload.flops(),
        bytes=workload.bytes(),
    )


def _outcome(record: Record, times: list[float], block: int, processes: int, machine: Machine, started: str) -> Record:
    """Return the record with its status and the fields that depend on it."""
    kind = KINDS.get(record.variant, Kind(0.5))
    status, reason = kind.status, kind.reason
    if status == "unsupported" and device_type(machine.device) == "cuda":
        status, reason = "ok", None
    if status in ("crash", "timeout") and record.workload.seq_q < 2048:
        status, reason = "ok", None
    peak = peak_bytes(record.variant, record.workload)
    if status == "ok" and peak > machine.memory_bytes:
        status, reason = "out_of_memory", f"asked for {peak} bytes"
    common = {"status": status, "reason": reason, "started_at": started, "ended_at": started}
    if status == "incorrect":
        error = {"rule": "row", "worst_ratio": 41.3, "max_abs": 0.3}
        return dataclasses.replace(record, **common, error=error, log=f"logs/{record.record_id}.log")
    if status != "ok":
        log = None if status == "unsupported" else f"logs/{record.record_id}.log"
        return dataclasses.replace(record, **common, log=log)
    worst = 0.08 + int(record.cell_id, 16) % 50 / 100
    return dataclasses.replace(
        record,
        **common,
        phase="done",
        samples_ns=tuple(times),
        block_sizes=(block,) * (len(times) // block),
        block_rounds=tuple(range(len(times) // block)),
        block_processes=tuple(index * processes * block // len(times) for index in range(len(times) // block)),
        stopped_by="precision",
        first_call_ns=times[0] * 8,
        peak_bytes=peak,
        saved_bytes=record.workload.bytes() // 2 if record.workload.needs_gradient else 0,
        kernels=(f"{record.variant}_kernel", "aten::empty"),
        telemetry={"blocks": _telemetry(record, len(times) // block, machine)},
        error={"rule": "row", "worst_ratio": worst, "max_abs": worst * 1e-6},
    )


def _telemetry(record: Record, blocks: int, machine: Machine) -> list[dict[str, object]]:
    """Return the telemetry of each block. At most one block per cell is throttled, and a CPU reports no power."""
    power = None if device_type(machine.device) == "cpu" else 300.0 + int(record.cell_id, 16) % 200
    seldom = int(record.cell_id, 16) % 20
    return [{"power_w": power, "throttle": ["power"] if block == seldom else []} for block in range(blocks)]


def _manifest(
    name: str, variants: list[str], cells: list[Workload], machine: Machine, started: str
) -> dict[str, object]:
    packages = {"attnbench": "0.1.0", "torch": "2.13.0+cpu" if machine is CPU else "2.13.0+cu130"}
    environment = {
        "environment_id": _digest("environment", machine.name),
        "device_name": machine.name,
        "device_memory_bytes": machine.memory_bytes,
        "driver": None if machine is CPU else "570.86",
        "cores": 16,
        "python": "3.11.7",
        "system": "Linux 6.1",
        "packages": packages,
    }
    return {
        "schema": 1,
        "run_id": name,
        "started_at": started,
        "ended_at": started,
        "machine": {
            "host": "bench-box",
            "command": ["attnbench", "run"],
            "git": {"commit": "0123456789abcdef", "dirty": False},
        },
        "environments": {machine.device: environment},
        "protocols": {device_type(machine.device): {"mode": "hot", "precision": 0.02, "budget_s": 10.0}},
        "plugins": [
            {
                "name": "builtin",
                "origin": "entry point",
                "source": "attnbench_variants",
                "reason": None,
                "variants": {variant: _digest("plugin", variant) for variant in sorted(set(variants))},
            }
        ],
        "doctor": [
            {"check": "governor", "level": "ok", "found": "performance on all CPUs", "remedy": None},
            {"check": "load", "level": "warning", "found": "others take 1.2 cores", "remedy": "stop what else runs"},
        ],
        "limits": {
            machine.device: {
                dtype: {"copy_bytes_per_s": machine.copy_bytes, "matmul_flops_per_s": machine.matmul_flops}
                for dtype in sorted({cell.dtype for cell in cells})
            }
        },
        "plan": [
            {"cell_id": _digest(variant, cell.id, machine.name), "variant": variant, "device": machine.device}
            for cell in cells
            for variant in variants
        ],
        "summary": {"statuses": {}, "wall_s": 100.0, "useful_share": 0.8, "interrupted": False},
    }
