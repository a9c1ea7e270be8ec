"""One variant on one device: its warm worker, and the cell it is at."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.errors import RecordError, describe
from attnbench.isolation.process import WorkerLostError
from attnbench.messages import (
    Block,
    BlockRequest,
    CloseReply,
    CloseRequest,
    DoneReply,
    FailedReply,
    LoadRequest,
    OpenReply,
    OpenRequest,
    Reply,
    failure_reason,
)
from attnbench.runner.cell_progress import THROTTLED_LIMIT, CellContext, CellProgress, throttled_share, utc_now
from attnbench.runner.worker_team import start_worker
from attnbench.stats.stopping import Stopping

if TYPE_CHECKING:
    from attnbench.measure_config import MeasureConfig
    from attnbench.plan.cells import Cell
    from attnbench.record import Record
    from attnbench.runner.limits import CellLimits
    from attnbench.runner.worker_team import WorkerHandle

LONGEST_REASON = 10_000  # characters
MOST_CRASHES = 3  # of one variant, before its remaining cells are not tried


class CellRunner:
    """Serves the cells of one variant on one device, one after the other, in a worker that stays warm.

    `open`, `block` and `close` return None while all is well, else the record that ends the cell.
    """

    def __init__(self, context: CellContext, *, control: bool) -> None:
        self._context, self._protocol, self._deadline_s = context, context.protocol, context.limits.deadline_s
        self._worker: WorkerHandle | None = None
        self._progress: CellProgress | None = None
        self.control = control
        self.seconds: dict[str, float] = {}  # spent in each phase by workers that have ended
        self._loaded: DoneReply | WorkerLostError | None = None

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
        self._progress = CellProgress(cell, utc_now())
        crashes = self._context.crashes[cell.variant.name, self.control]
        if crashes >= MOST_CRASHES:
            return self._record("crash", "start", reason=f"not tried: {crashes} cells of {cell.variant.name} crashed")
        try:
            worker = self._ready_worker(cell)
            worker.log_to(self._log_path(cell))
            reply = worker.request(
                OpenRequest(cell.workload.share.to_json(), self._protocol.to_json()), self._deadline_s
            )
        except WorkerLostError as lost:
            return self._lost(lost)
        if not isinstance(reply, OpenReply):
            return self._ended(reply)
        self._now.call_ns, self._now.first_call_ns, self._now.error = reply.call_ns, reply.first_call_ns, reply.error
        for flag in reply.flags:
            self.flag(flag)
        return None

    def block(self, round_number: int, duration_ns: float) -> Record | None:
        """Time one block and keep its samples."""
        began = time.monotonic_ns()
        try:
            reply = self._the_worker.request(BlockRequest(duration_ns), self._deadline_s)
        except WorkerLostError as lost:
            return self._lost(lost)
        if not isinstance(reply, Block):
            return self._ended(reply)
        if problem := reply.contradiction(time.monotonic_ns() - began):
            return self._ended(FailedReply("error", "measure", problem))
        self._add(round_number, reply)
        return None

    def _add(self, round_number: int, block: Block) -> None:
        self._now.samples_ns += block.samples_ns
        self._now.block_sizes.append(len(block.samples_ns))
        self._now.block_rounds.append(round_number)
        telemetry = block.telemetry
        if block.suspicions:
            telemetry = {**telemetry, "suspects": [f"{found.kind}: {found.text}" for found in block.suspicions]}
        for found in block.suspicions:
            self.flag(found.kind)
        self._now.telemetry.append(telemetry)
        if not self.stopping.done:
            self.stopping.add(block.samples_ns, block.wall_ns)

    def close(self) -> Record:
        """End the cell: last conformance, memory, kernels."""
        try:
            reply = self._the_worker.request(CloseRequest(), self._deadline_s)
        except WorkerLostError as lost:
            return self._lost(lost)
        return self._measured(reply) if isinstance(reply, CloseReply) else self._ended(reply)

    def _measured(self, reply: CloseReply) -> Record:
        if throttled_share(self._now.telemetry, self._now.block_sizes) > THROTTLED_LIMIT:
            self.flag("throttled")
        self._now.details = {
            "backend": reply.backend,
            "kernels_reason": reply.kernels_reason,
            "reserved_bytes": reply.reserved_bytes,
            "driver_bytes": reply.driver_bytes,
        }
        samples = "cold_samples_ns" if self._protocol.mode == "cold" else "samples_ns"
        try:
            return self._record(
                "ok",
                "done",
                **{samples: tuple(self._now.samples_ns)},
                block_sizes=tuple(self._now.block_sizes),
                block_rounds=tuple(self._now.block_rounds),
                stopped_by=self.stopping.stopped_by,
                peak_bytes=reply.peak_bytes,
                saved_bytes=reply.saved_bytes,
                kernels=reply.kernels,
            )
        except RecordError as error:
            return self._malformed(error)

    def refuse(self, cell: Cell, status: str, reason: str, *flags: str) -> Record:
        """Record a cell as `unsupported` or `out_of_memory` without starting anything."""
        self._progress = CellProgress(cell, utc_now())
        return self._record(status, "prepare", reason=reason, flags=flags)

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
    def _now(self) -> CellProgress:
        assert self._progress is not None, "open a cell first"  # noqa: S101 - our own order of calls
        return self._progress

    @property
    def _the_worker(self) -> WorkerHandle:
        assert self._worker is not None, "open a cell first"  # noqa: S101 - our own order of calls
        return self._worker

    def start(self, cell: Cell) -> None:
        """Start the worker without waiting for it, so that several import torch at once."""
        if self._worker is None:
            self._worker = start_worker(cell.device, cell.variant, self._context.limits.host_memory_bytes)
            self._worker.log_to(self._log_path(cell))
            self._worker.post(LoadRequest(cell.variant.source.to_json(), cell.variant.name, cell.device.torch_name))
            self._loaded = None

    def settle(self) -> None:
        """Wait until a started worker has loaded; what goes wrong here is told when a cell opens."""
        if self._worker is None or self._loaded is not None:
            return
        try:
            reply = self._worker.wait(self._deadline_s)
            self._loaded = reply if isinstance(reply, DoneReply) else _loss(reply)
        except WorkerLostError as lost:
            self._loaded = lost

    def _ready_worker(self, cell: Cell) -> WorkerHandle:
        self.start(cell)
        self.settle()
        if isinstance(self._loaded, WorkerLostError):
            raise self._loaded
        return self._the_worker

    def _lost(self, lost: WorkerLostError) -> Record:
        if self._context.at_once():
            record = self.abandon()
        else:
            self._context.crashes[self.variant, self.control] += lost.status == "crash"
            record = self._record(lost.status, lost.phase, reason=lost.reason)
        self.stop()
        return record

    def _ended(self, reply: Reply) -> Record:
        """Return the record of a cell that a reply ends. After an exception the next cell gets a new worker."""
        if not isinstance(reply, FailedReply):
            reply = FailedReply("error", "measure", failure_reason(reply))
        try:
            record = self._record(reply.status, reply.phase, reason=reply.reason[:LONGEST_REASON], error=reply.error)
        except RecordError as error:
            return self._malformed(error)
        if reply.status not in ("unsupported", "incorrect"):
            self.stop()
        return record

    def _malformed(self, error: RecordError) -> Record:
        """Record that the worker's values fit no record; the next cell gets a new worker."""
        reason = f"the worker's answer does not fit: {describe(error)}"[:LONGEST_REASON]
        record = self._record("error", "measure", reason=reason, error=None)
        self.stop()
        return record

    def _log_path(self, cell: Cell) -> Path:
        suffix = "-control" if self.control else ""
        return self._context.run / "logs" / f"{cell.cell_id}{suffix}.log"

    def _record(self, status: str, phase: str, **fields: Any) -> Record:
        log = self._worker.log if self._worker else None
        record = self._now.record(self._context, status, phase, log, control=self.control, **fields)
        self._progress = None
        return record


def _loss(reply: Reply) -> WorkerLostError:
    if isinstance(reply, FailedReply):
        return WorkerLostError(reply.status, reply.phase, reply.reason)
    return WorkerLostError("error", "import", failure_reason(reply))


class CellRunners:
    """The runners of one device, made when first asked for and kept warm."""

    def __init__(self, context: CellContext) -> None:
        self._context = context
        self._runners: dict[tuple[str, bool], CellRunner] = {}

    @property
    def protocol(self) -> MeasureConfig:
        """How the device's cells are measured."""
        return self._context.protocol

    @property
    def limits(self) -> CellLimits:
        """What the device's cells may take."""
        return self._context.limits

    def of(self, cell: Cell, *, control: bool = False) -> CellRunner:
        """Give the runner of a cell's variant."""
        return self._runners.setdefault((cell.variant.name, control), CellRunner(self._context, control=control))

    @property
    def are_open(self) -> bool:
        """Whether any cell is open."""
        return any(runner.is_open for runner in self._runners.values())

    def stop(self, but: Collection[str] = ()) -> None:
        """End all workers but those of some variants."""
        for (variant, _), runner in self._runners.items():
            if variant not in but:
                runner.stop()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds spent in each phase by workers that have ended."""
        total: dict[str, float] = {}
        for runner in self._runners.values():
            for phase, seconds in runner.seconds.items():
                total[phase] = total.get(phase, 0.0) + seconds
        return total
