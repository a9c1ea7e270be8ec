"""One variant on one device: its warm worker, and the cell it is at."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.errors import RecordError
from attnbench.measure.block import TAGGED_LIMIT, Block, tagged_share
from attnbench.measure.stopping import Stopping
from attnbench.record import Record
from attnbench.runner.process import WorkerLostError, WorkerProcess

if TYPE_CHECKING:
    from attnbench.measure.protocol import Protocol
    from attnbench.runner.plan import Cell

MOST_CRASHES = 3  # of one variant, before its remaining cells are not tried


@dataclass
class Progress:
    """What is known of a cell so far."""

    cell: Cell
    started_at: str
    call_ns: float = 0.0
    samples_ns: list[float] = field(default_factory=list)
    block_sizes: list[int] = field(default_factory=list)
    block_rounds: list[int] = field(default_factory=list)
    first_call_ns: float | None = None
    error: dict[str, Any] | None = None
    flags: list[str] = field(default_factory=list)
    telemetry: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    stopping: Stopping | None = None


class Lane:
    """Serves the cells of one variant on one device, one after the other, in a worker that stays warm.

    `open`, `block` and `close` return None while all is well, else the record that ends the cell.
    """

    def __init__(
        self, run: Path, protocol: Protocol, environment_id: str, deadline_s: Callable[[str], float], *, control: bool
    ) -> None:
        self._run, self._protocol, self._environment_id, self._deadline_s = run, protocol, environment_id, deadline_s
        self._worker: WorkerProcess | None = None
        self._progress: Progress | None = None
        self.control = control
        self.crashes = 0
        self.seconds: dict[str, float] = {}  # spent in each phase by workers that have ended
        self._loaded: dict[str, Any] | WorkerLostError | None = None

    @property
    def is_open(self) -> bool:
        """Whether a cell is open."""
        return self._progress is not None

    @property
    def variant(self) -> str:
        """The name of the open cell's variant."""
        return self._now.cell.variant.name

    @property
    def call_ns(self) -> float:
        """The warm-up's estimate of one call's time."""
        return self._now.call_ns

    @property
    def stopping(self) -> Stopping:
        """The rule that says when this cell has been measured enough."""
        if self._now.stopping is None:
            self._now.stopping = Stopping(self._protocol, self._now.cell.device.kind)
        return self._now.stopping

    def open(self, cell: Cell) -> Record | None:
        """Start a cell: worker, set-up, conformance, warm-up."""
        self._progress = Progress(cell, now())
        if self.crashes >= MOST_CRASHES:
            return self._record(
                "crash", "start", reason=f"not tried: {self.crashes} cells of {cell.variant.name} crashed"
            )
        try:
            worker = self._ready_worker(cell)
            worker.log_to(self._log_path(cell))
            reply = worker.request(
                "open", self._deadline_s, workload=cell.workload.to_json(), protocol=self._protocol.to_json()
            )
        except WorkerLostError as lost:
            return self._lost(lost)
        if reply["status"] != "ready":
            return self._ended(reply)
        self._now.call_ns = float(reply["call_ns"])
        self._now.first_call_ns, self._now.error = reply["first_call_ns"], reply["error"]
        for flag in reply.get("flags", []):
            self.flag(flag)
        return None

    def block(self, round_number: int, duration_ns: float) -> Record | None:
        """Time one block and keep its samples."""
        began = time.monotonic_ns()
        try:
            reply = self._the_worker.request("block", self._deadline_s, duration_ns=duration_ns)
        except WorkerLostError as lost:
            return self._lost(lost)
        if reply["status"] != "ready":
            return self._ended(reply)
        block = Block.from_json({name: value for name, value in reply.items() if name != "status"})
        if problem := block.contradicts(time.monotonic_ns() - began):
            return self._ended({"status": "error", "phase": "measure", "reason": problem})
        samples = block.samples_ns
        self._now.samples_ns += samples
        self._now.block_sizes.append(len(samples))
        self._now.block_rounds.append(round_number)
        for suspect in block.suspects:
            self.flag(suspect.partition(":")[0])
        self._now.telemetry.append({**block.telemetry, **({"suspects": block.suspects} if block.suspects else {})})
        if not self.stopping.done:
            self.stopping.add(samples, block.wall_ns)
        return None

    def close(self) -> Record:
        """End the cell: last conformance, memory, kernels."""
        try:
            reply = self._the_worker.request("close", self._deadline_s)
        except WorkerLostError as lost:
            return self._lost(lost)
        if reply["status"] != "ok":
            return self._ended(reply)
        try:
            return self._measured(reply["memory"], reply["kernels"])
        except RecordError as error:
            return self._record("error", "measure", reason=str(error))

    def _measured(self, memory: dict[str, Any], kernels: dict[str, Any]) -> Record:
        if tagged_share(self._now.telemetry, self._now.block_sizes) > TAGGED_LIMIT:
            self.flag("throttled")
        self._now.details = {
            "backend": kernels.get("backend"),
            "kernels_reason": kernels.get("reason"),
            "reserved_bytes": memory.get("reserved_bytes"),
            "driver_bytes": memory.get("driver_bytes"),
        }
        samples = "cold_samples_ns" if self._protocol.mode == "cold" else "samples_ns"
        return self._record(
            "ok",
            "done",
            **{samples: tuple(self._now.samples_ns)},
            block_sizes=tuple(self._now.block_sizes),
            block_rounds=tuple(self._now.block_rounds),
            stopped_by=self.stopping.stopped_by,
            peak_bytes=memory.get("peak_bytes"),
            saved_bytes=memory.get("saved_bytes"),
            kernels=None if kernels.get("names") is None else tuple(kernels["names"]),
        )

    def refuse(self, cell: Cell, reason: str) -> Record:
        """Record a cell as unsupported without starting anything."""
        self._progress = Progress(cell, now())
        return self._record("unsupported", "prepare", reason=reason)

    def abandon(self) -> Record:
        """Give up the open cell as interrupted."""
        return self._record("interrupted", "measure", reason="the run was interrupted")

    def flag(self, flag: str) -> None:
        """Mark the open cell, once."""
        if flag not in self._now.flags:
            self._now.flags.append(flag)

    def stop(self) -> None:
        """End the worker."""
        if self._worker is not None:
            for phase, seconds in self._worker.seconds.items():
                self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
            self._worker.stop()
            self._worker = None

    @property
    def _now(self) -> Progress:
        assert self._progress is not None, "open a cell first"  # noqa: S101 - our own order of calls
        return self._progress

    @property
    def _the_worker(self) -> WorkerProcess:
        assert self._worker is not None, "open a cell first"  # noqa: S101 - our own order of calls
        return self._worker

    def start(self, cell: Cell) -> None:
        """Start the worker without waiting for it, so that several import torch at once."""
        if self._worker is None:
            self._worker = WorkerProcess(cell.device.worker_environment(), cell.device.core)
            self._worker.log_to(self._log_path(cell))
            self._worker.post(
                "load",
                source=cell.variant.source.to_json(),
                variant=cell.variant.name,
                device=cell.device.torch_name,
            )
            self._loaded = None

    def settle(self) -> None:
        """Wait until a started worker has loaded; what goes wrong here is told when a cell opens."""
        if self._worker is None or self._loaded is not None:
            return
        try:
            reply = self._worker.wait(self._deadline_s)
            self._loaded = reply if reply["status"] == "ready" else self._loss(reply)
        except WorkerLostError as lost:
            self._loaded = lost

    def _ready_worker(self, cell: Cell) -> WorkerProcess:
        self.start(cell)
        self.settle()
        if isinstance(self._loaded, WorkerLostError):
            raise self._loaded
        return self._the_worker

    @staticmethod
    def _loss(reply: dict[str, Any]) -> WorkerLostError:
        return WorkerLostError(reply["status"], reply["phase"], reply["reason"])

    def _lost(self, lost: WorkerLostError) -> Record:
        self.crashes += lost.status == "crash"
        record = self._record(lost.status, lost.phase, reason=lost.reason)
        self.stop()
        return record

    def _ended(self, reply: dict[str, Any]) -> Record:
        """Record what the worker said; an exception may have tainted the process, so the next cell gets a new one."""
        record = self._record(
            reply["status"], reply.get("phase", "measure"), reason=reply.get("reason"), error=reply.get("error")
        )
        if reply["status"] not in ("unsupported", "incorrect"):
            self.stop()
        return record

    def _log_path(self, cell: Cell) -> Path:
        suffix = "-control" if self.control else ""
        return self._run / "logs" / f"{cell.cell_id}{suffix}.log"

    def _record(self, status: str, phase: str, **fields: Any) -> Record:
        progress, cell = self._now, self._now.cell
        log = self._worker.log if self._worker else None
        timed = {"first_call_ns": progress.first_call_ns} if status == "ok" else {}
        record = Record(
            record_id=uuid.uuid4().hex,
            run_id=self._run.name,
            cell_id=cell.cell_id,
            variant=cell.variant.name,
            plugin=cell.variant.plugin,
            plugin_sha256=cell.variant.sha256,
            workload=cell.workload,
            device=cell.device.name,
            device_name=cell.device.model,
            environment_id=self._environment_id,
            protocol_id=self._protocol.protocol_id,
            status=status,
            phase=phase,
            started_at=progress.started_at,
            ended_at=now(),
            mode=self._protocol.mode,
            control=self.control,
            tier=cell.variant.tier,
            exact=cell.variant.exact,
            flops=cell.workload.flops(),
            bytes=cell.workload.bytes(),
            log=str(log.relative_to(self._run)) if log else None,
            **{
                "error": progress.error,
                "flags": tuple(progress.flags),
                "telemetry": {"blocks": progress.telemetry, **progress.details},
                **timed,
                **fields,
            },
        )
        self._progress = None
        return record


class Lanes:
    """The lanes of one device, made when first asked for and kept warm."""

    def __init__(self, run: Path, protocol: Protocol, environment_id: str, deadline_s: Callable[[str], float]) -> None:
        self._run, self.protocol, self._environment_id, self._deadline_s = run, protocol, environment_id, deadline_s
        self._lanes: dict[tuple[str, bool], Lane] = {}

    def of(self, cell: Cell, *, control: bool = False) -> Lane:
        """Give the lane of a cell's variant."""
        key = (cell.variant.name, control)
        if key not in self._lanes:
            self._lanes[key] = Lane(self._run, self.protocol, self._environment_id, self._deadline_s, control=control)
        return self._lanes[key]

    def stop(self) -> None:
        """End all workers."""
        for lane in self._lanes.values():
            lane.stop()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds spent in each phase by workers that have ended."""
        total: dict[str, float] = {}
        for lane in self._lanes.values():
            for phase, seconds in lane.seconds.items():
                total[phase] = total.get(phase, 0.0) + seconds
        return total


def now() -> str:
    """Give the present time in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
