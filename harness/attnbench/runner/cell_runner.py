"""Run the cells of one process of a variant on one device, in a worker that is reused for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from attnbench.errors import RecordError, describe
from attnbench.isolation.worker_process import WorkerLostError
from attnbench.machine.utc_clock import utc_now
from attnbench.messages import (
    Block,
    BlockRequest,
    CloseReply,
    CloseRequest,
    FailedReply,
    OpenReply,
    OpenRequest,
    ProfileReply,
    ProfileRequest,
    Reply,
    Suspicion,
    failure_reason,
)
from attnbench.plan.device_peaks import cached_limits
from attnbench.record import HARNESS_OUT_OF_MEMORY, STOPPED, SUSPECT
from attnbench.runner.cell_progress import THROTTLED_LIMIT, CellContext, CellProgress, throttled_share
from attnbench.runner.variant_worker import VariantWorker
from attnbench.stats.disturbance import DISTURBED, causes, exceeds_limit
from attnbench.stats.stopping import PRECISION, StoppingRule

if TYPE_CHECKING:
    from attnbench.measure_config import MeasureConfig
    from attnbench.plan.cells import Cell
    from attnbench.record import Record

MAX_REASON_LENGTH = 10_000  # in characters; longer reasons are truncated
MAX_STOPPED_BLOCKS = 3  # a block is timed at most this often if the run is stopped and continued each time
MAX_CRASHES = 3  # once a variant has crashed this many times, its remaining cells are not tried


class CellRunner:
    """A runner that measures the cells of one process of a variant on one device, one after the other.

    The runner's worker imports torch and the plugin once and is reused until a cell fails. Each method that measures
    returns the cell's record if the cell has ended. `open` and `block` return None if the cell is still open, and
    `close` returns None if further processes are to measure the cell.

    `resident_workers` is a function that returns the number of workers on the device, including this runner's worker.
    """

    def __init__(self, context: CellContext, resident_workers: Callable[[], int]) -> None:
        self._context, self._protocol = context, context.protocol
        self._resident_workers = resident_workers
        self._worker = VariantWorker(context.limits.host_memory_bytes, self._deadline_s)
        self._progress: CellProgress | None = None
        self._latest: Block | None = None  # the latest block, until it has been counted or is to be repeated

    @property
    def has_worker(self) -> bool:
        """Whether the runner's worker is running."""
        return self._worker.is_running

    @property
    def seconds(self) -> dict[str, float]:
        """The time in seconds that workers spent in each phase before they were stopped."""
        return self._worker.seconds

    @property
    def is_open(self) -> bool:
        """Whether a cell is open."""
        return self._progress is not None

    @property
    def variant(self) -> str:
        """The name of the open cell's variant."""
        return self._current.cell.variant.name

    @property
    def call_ns(self) -> float:
        """The duration of one call in ns, as estimated during the warm-up."""
        return self._current.call_ns

    @property
    def stopping(self) -> StoppingRule:
        """The rule that decides when the open cell has enough samples."""
        if self._current.stopping is None:
            self._current.stopping = StoppingRule(self.share, self._current.cell.device.kind)
        return self._current.stopping

    @property
    def share(self) -> MeasureConfig:
        """The settings of the measurement for this process, which is one of the open cell's processes."""
        return self._protocol.share(self._current.processes, self._current.cell.device.kind)

    @property
    def stopped_by(self) -> str | None:
        """What has ended the sampling of the open cell: `precision` if all its processes have reached theirs."""
        earlier = self._current.stopped_by
        return self.stopping.stopped_by if earlier in (None, PRECISION) else earlier

    def finish_with_this_process(self) -> None:
        """Measure the open cell in no further process, because it is precise and its comparisons are clear."""
        self._current.processes = self._current.process + 1

    def open(self, progress: CellProgress) -> Record | None:
        """Open a cell: start the worker if necessary, prepare the variant, check its answers, and warm up.

        `progress` holds what earlier processes have measured of the cell. Returns the cell's record if the cell is not
        tried or if one of these steps fails, and None otherwise.
        """
        self._progress, cell, self._latest = progress, progress.cell, None
        progress.stopping = None
        crashes = self._context.crashes[cell.variant.name]
        if crashes >= MAX_CRASHES:
            return self._record("crash", "start", reason=f"not tried: {crashes} cells of {cell.variant.name} crashed")
        try:
            worker = self._worker.ready(cell, self._log_path(cell))
            stopped_s = worker.stopped_s
            reply = worker.request(self._open_request(progress), self._deadline_s)
        except WorkerLostError as lost:
            return self._lost(lost)
        if not isinstance(reply, OpenReply):
            return self._ended(reply)
        progress.call_ns = reply.call_ns
        stopped = worker.stopped_s != stopped_s
        if stopped:
            self.flag(STOPPED)
        if progress.process == 0:
            progress.first_call_ns, progress.error = None if stopped else reply.first_call_ns, reply.error
        for flag in reply.flags:
            self.flag(flag)
        return None

    def _open_request(self, progress: CellProgress) -> OpenRequest:
        return OpenRequest(progress.cell.workload.share, self.share, again=progress.process > 0)

    def block(self, round_number: int, duration_ns: float) -> Record | None:
        """Time one block of about `duration_ns` and store its samples.

        Call `count_block` or `repeat_block` afterwards. A block during which the run was stopped and continued is timed
        again. Returns the cell's record if the block fails, and None otherwise.
        """
        for tries in range(1, 1 + MAX_STOPPED_BLOCKS):
            stopped_s = self._worker.handle.stopped_s
            reply = self._timed_block(duration_ns)
            if not isinstance(reply, Block):
                return reply
            self._suspect(reply.suspicions)
            stopped = self._worker.handle.stopped_s != stopped_s
            if not stopped or tries == MAX_STOPPED_BLOCKS:
                self._add(round_number, reply, stopped=stopped)
                break
            self.flag(STOPPED)
        return None

    def _timed_block(self, duration_ns: float) -> Block | Record:
        """Return a block of about `duration_ns`, or the cell's record if the block fails."""
        began = time.monotonic_ns()
        try:
            reply = self._worker.handle.request(BlockRequest(duration_ns), self._deadline_s)
        except WorkerLostError as lost:
            return self._lost(lost)
        if not isinstance(reply, Block):
            return self._ended(reply)
        if problem := reply.contradiction(time.monotonic_ns() - began):
            return self._ended(FailedReply("error", "measure", problem))
        return reply

    def _add(self, round_number: int, block: Block, *, stopped: bool) -> None:
        self._current.resident_workers = max(self._current.resident_workers, self._resident_workers())
        self._current.samples_ns += block.samples_ns
        self._current.block_sizes.append(len(block.samples_ns))
        self._current.block_rounds.append(round_number)
        self._current.block_processes.append(self._current.process)
        telemetry = block.telemetry
        if stopped:
            telemetry = {**telemetry, "throttle": [*telemetry.get("throttle", ()), STOPPED]}
        if block.suspicions:
            telemetry = {**telemetry, "suspects": [f"{found.kind}: {found.text}" for found in block.suspicions]}
        self._current.telemetry.append(telemetry)
        self._latest = block

    @property
    def was_disturbed(self) -> bool:
        """Whether others had the cores during the latest block."""
        return self._latest is not None and bool(causes(self._latest.telemetry))

    def count_block(self) -> None:
        """Let the stopping rule count the latest block."""
        block, self._latest = self._latest, None
        if block is not None and not self.stopping.done:
            self.stopping.add(block.samples_ns, block.wall_ns)

    def repeat_block(self) -> None:
        """Note that the latest block will be measured again. Its samples are kept, but they don't end the sampling."""
        self._latest = None
        self._current.repeated += 1

    def close(self) -> Record | None:
        """End this process's part of the cell.

        The last process checks the variant's answers again, measures memory, lists the kernels, and returns the cell's
        record. The worker is stopped if its profiler might slow down the calls of another cell.
        """
        progress = self._current
        progress.stopped_by = self.stopped_by
        try:
            reply = self._worker.handle.request(CloseRequest(progress.is_last_process), self._deadline_s)
        except WorkerLostError as lost:
            return self._lost(lost)
        if not isinstance(reply, CloseReply):
            return self._ended(reply)
        self._suspect(reply.suspicions)
        if not progress.is_last_process:
            progress.process += 1
            self._progress = None
            return None
        profile = self._profile()
        record = self._measured(reply, profile)
        if not profile.detached:
            self.stop()
        return record

    def _suspect(self, suspicions: Sequence[Suspicion]) -> None:
        """Flag the open cell for each suspicion. If its times are suspect, the reason is stored, too."""
        for found in suspicions:
            self.flag(found.kind)
            if found.kind == SUSPECT and found.text not in self._current.suspicions:
                self._current.suspicions.append(found.text)

    def _profile(self) -> ProfileReply:
        """Return the kernels of the cell's calls, or the reason why they are unknown."""
        try:
            reply = self._worker.handle.request(ProfileRequest(), self._deadline_s)
        except WorkerLostError as lost:
            return ProfileReply(kernels_reason=f"the worker was lost: {lost.reason}"[:MAX_REASON_LENGTH])
        if isinstance(reply, ProfileReply):
            return reply
        return ProfileReply(kernels_reason=failure_reason(reply)[:MAX_REASON_LENGTH])

    def _measured(self, reply: CloseReply, profile: ProfileReply) -> Record:
        if throttled_share(self._current.telemetry, self._current.block_sizes) > THROTTLED_LIMIT:
            self.flag("throttled")
        self._suspect_if_too_fast()
        if exceeds_limit(self._current.disturbed):
            self.flag(DISTURBED)
        self._current.details = {
            "backend": profile.backend,
            "kernels_reason": profile.kernels_reason,
            "profiler_detached": profile.detached,
            "reserved_bytes": reply.reserved_bytes,
            "driver_bytes": reply.driver_bytes,
            "resident_workers": self._current.resident_workers,
            "disturbed_blocks": sum(self._current.disturbed),
            "repeated_blocks": self._current.repeated,
        }
        samples = "cold_samples_ns" if self._protocol.mode == "cold" else "samples_ns"
        return self._record(
            "ok",
            "done",
            **{samples: tuple(self._current.samples_ns)},
            block_sizes=tuple(self._current.block_sizes),
            block_rounds=tuple(self._current.block_rounds),
            block_processes=tuple(self._current.block_processes),
            stopped_by=self._current.stopped_by,
            peak_bytes=reply.peak_bytes,
            saved_bytes=reply.saved_bytes,
            harness_bytes=reply.harness_bytes,
            kernels=profile.kernels,
        )

    def _suspect_if_too_fast(self) -> None:
        """Flag the open cell as suspect if its time is far below what the device's measured limits allow."""
        cell = self._current.cell
        problem = cached_limits(cell.device, self._context.environment_id).implausible_time(
            median(self._current.samples_ns) / 1e9,
            dtype=cell.workload.dtype,
            tier=cell.variant.tier,
            flops=cell.workload.share.flops() if cell.variant.exact else 0,
            moved_bytes=cell.workload.share.bytes(),
            flushed=self._protocol.mode == "cold",
        )
        if problem:
            self._suspect([Suspicion(SUSPECT, problem)])

    def refuse(self, cell: Cell, status: str, reason: str, *flags: str) -> Record:
        """Return a record with this status for a cell that is not tried.

        `reason` explains why the cell is not tried, and `flags` are the flags of the record.
        """
        self._progress = CellProgress(cell, utc_now())
        return self._record(status, "prepare", reason=reason, flags=flags)

    def abandon(self, progress: CellProgress | None = None) -> Record:
        """Close the open cell, or one that is between two processes, and return an `interrupted` record."""
        self._progress = progress or self._progress
        return self._record("interrupted", "measure", reason="the run was interrupted")

    def flag(self, flag: str) -> None:
        """Add a flag to the open cell's record, unless the record already has this flag."""
        if flag not in self._current.flags:
            self._current.flags.append(flag)

    def start(self, cell: Cell) -> None:
        """Start the worker but don't wait until it is ready, so that several workers can import torch in parallel."""
        self._worker.start(cell, self._log_path(cell))

    def wait_until_loaded(self) -> None:
        """Wait until the started worker has loaded its plugin.

        If loading fails, the next call to `open` returns a record of the failure.
        """
        self._worker.wait_until_loaded()

    def stop(self) -> None:
        """Stop the worker if one is running."""
        self._worker.stop()

    def stop_if_grown(self, kind: str) -> None:
        """Stop the worker of a device of this kind if no cell is open and its libraries keep too much memory."""
        if not self.is_open and self._worker.has_grown(kind):
            self.stop()

    def _deadline_s(self, phase: str) -> float:
        """Return how long a phase may take, in seconds. The deadline depends on the open cell's workload, if any."""
        return self._context.limits.deadline_s(phase, self._progress.cell.workload.share if self._progress else None)

    @property
    def _current(self) -> CellProgress:
        assert self._progress is not None, "open a cell first"  # noqa: S101 - callers always open a cell first
        return self._progress

    def _lost(self, lost: WorkerLostError) -> Record:
        if self._context.stop_now():
            record = self.abandon()
        else:
            self._context.crashes[self.variant] += lost.status == "crash"
            if lost.status == "out_of_memory" and lost.phase == "recheck":  # in this phase, no call is made
                self.flag(HARNESS_OUT_OF_MEMORY)
            record = self._record(lost.status, lost.phase, reason=lost.reason)
        self.stop()
        return record

    def _ended(self, reply: Reply) -> Record:
        """Close the open cell after a failed or unexpected reply, and return the cell's record."""
        if not isinstance(reply, FailedReply):
            reply = FailedReply("error", "measure", failure_reason(reply))
        for flag in reply.flags:
            self.flag(flag)
        record = self._record(reply.status, reply.phase, reason=reply.reason[:MAX_REASON_LENGTH], error=reply.error)
        if reply.gpu_lost or reply.status not in ("unsupported", "incorrect"):
            self.stop()  # an exception may have left the process in a bad state
        return record

    def _log_path(self, cell: Cell) -> Path:
        return self._context.run / "logs" / f"{cell.cell_id}.log"

    def _record(self, status: str, phase: str, **fields: Any) -> Record:
        """Close the open cell and return its record."""
        log, cell = self._worker.log, self._current
        try:
            record = cell.record(self._context, status, phase, log, **fields)
        except RecordError as error:  # a worker that sends invalid values may be broken, so it is stopped below
            reason = f"the worker sent invalid values: {describe(error)}"[:MAX_REASON_LENGTH]
            record = cell.record(self._context, "error", "measure", log, reason=reason, error=None)
            self.stop()
        self._progress = None
        return record
