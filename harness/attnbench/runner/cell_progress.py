"""The state of an open cell, from which the cell's record is created."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.machine.utc_clock import utc_now
from attnbench.record import Record
from attnbench.stats.disturbance import causes, is_throttled
from attnbench.stats.paired import Blocks

if TYPE_CHECKING:
    from attnbench.measure_config import MeasureConfig
    from attnbench.plan.cells import Cell
    from attnbench.runner.cell_limits import CellLimits
    from attnbench.stats.stopping import StoppingRule

# A record is flagged `throttled` if limits kept the clocks down while more than this share of its samples were taken.
THROTTLED_LIMIT = 0.10


@dataclass(frozen=True)
class CellContext:
    """The settings and counters that all cells of one device share.

    - `crashes`: the number of crashes, keyed by variant name. Devices of the same model share this counter.
    - `devices`: the number of devices that share the host's memory
    - `stop_now`: a function that returns True when the run must stop without finishing the current block
    """

    run: Path
    protocol: MeasureConfig
    environment_id: str
    limits: CellLimits
    crashes: Counter[str] = field(default_factory=Counter)
    stop_now: Callable[[], bool] = lambda: False
    devices: int = 1


@dataclass
class CellProgress:
    """The results that have been collected so far for a cell, which is measured in one process after another.

    - `process`: the number of the process that measures the cell at present, or is the next to do so
    - `processes`: the number of processes that are to measure the cell
    - `stopping`: the rule that decides when the present process has taken enough samples
    - `repeated`: the number of blocks that were measured again, because others had the cores during their round
    """

    cell: Cell
    started_at: str
    processes: int = 1
    process: int = 0
    call_ns: float = 0.0
    resident_workers: int = 0  # the largest number of workers on the device during a block, including the cell's own
    samples_ns: list[float] = field(default_factory=list)
    block_sizes: list[int] = field(default_factory=list)
    block_rounds: list[int] = field(default_factory=list)
    block_processes: list[int] = field(default_factory=list)
    first_call_ns: float | None = None
    error: dict[str, Any] | None = None
    flags: list[str] = field(default_factory=list)
    suspicions: list[str] = field(default_factory=list)  # why the cell's times are suspect
    telemetry: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    stopping: StoppingRule | None = None
    stopped_by: str | None = None
    repeated: int = 0

    @property
    def blocks(self) -> Blocks:
        """The samples of the blocks so far."""
        return Blocks(self.samples_ns, self.block_sizes, self.block_rounds, self.block_processes, self.disturbed)

    @property
    def disturbed(self) -> list[int]:
        """1 for each block in which others had the cores, and 0 for each other block."""
        return [int(bool(causes(block))) for block in self.telemetry]

    @property
    def is_last_process(self) -> bool:
        """Whether no further process is to measure the cell."""
        return self.process + 1 >= self.processes

    def record(self, context: CellContext, status: str, phase: str, log: Path | None, **fields: Any) -> Record:
        """Return the cell's record with the results collected so far.

        `fields` contains further fields of the record, which take precedence over collected results of the same name.
        Raises RecordError if a value is invalid.
        """
        cell = self.cell
        timed = {"first_call_ns": self.first_call_ns} if status == "ok" else {}
        return Record(
            record_id=uuid.uuid4().hex,
            run_id=context.run.name,
            cell_id=cell.cell_id,
            variant=cell.variant.name,
            plugin=cell.variant.plugin,
            plugin_sha256=cell.variant.sha256,
            workload=cell.workload,
            device=cell.device.name,
            device_name=cell.device.model,
            environment_id=context.environment_id,
            protocol_id=context.protocol.protocol_id,
            status=status,
            phase=phase,
            started_at=self.started_at,
            ended_at=utc_now(),
            mode=context.protocol.mode,
            tier=cell.variant.tier,
            exact=cell.variant.exact,
            flops=cell.workload.flops(),
            bytes=cell.workload.bytes(),
            log=str(log.relative_to(context.run)) if log else None,
            **{
                "error": self.error,
                "flags": tuple(self.flags),
                "reason": "; ".join(self.suspicions) or None,
                "telemetry": {"blocks": self.telemetry, **self.details},
                **timed,
                **fields,
            },
        )


def throttled_share(telemetry: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> float:
    """Return the share of samples that were taken while limits kept the clocks down.

    `telemetry` and `sizes` hold the telemetry and the number of samples of each block.
    """
    blocks = zip(telemetry, sizes, strict=True)
    return sum(size for block, size in blocks if is_throttled(block)) / max(1, sum(sizes))
