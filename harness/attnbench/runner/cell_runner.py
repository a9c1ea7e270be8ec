"""One variant on one device: its warm worker, and the cell it is at."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.errors import AttnbenchError, describe
from attnbench.isolation.process import WorkerLostError
from attnbench.record import STATUSES
from attnbench.runner.open_cell import Progress, Site, now
from attnbench.runner.team import start_worker
from attnbench.stats.block import TAGGED_LIMIT, Block, tagged_share
from attnbench.stats.stopping import Stopping

if TYPE_CHECKING:
    from attnbench.measure_config import MeasureConfig
    from attnbench.plan.cells import Cell
    from attnbench.record import Record
    from attnbench.runner.limits import Terms
    from attnbench.runner.team import Worker

MALFORMED = (KeyError, TypeError, ValueError, AttributeError, AttnbenchError)  # what reading a wrong reply raises
LONGEST_REASON = 10_000  # characters
MOST_CRASHES = 3  # of one variant, before its remaining cells are not tried


class Lane:
    """Serves the cells of one variant on one device, one after the other, in a worker that stays warm.

    `open`, `block` and `close` return None while all is well, else the record that ends the cell.
    """

    def __init__(self, site: Site, *, control: bool) -> None:
        self._site, self._protocol, self._deadline_s = site, site.protocol, site.terms.deadline_s
        self._worker: Worker | None = None
        self._progress: Progress | None = None
        self.control = control
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
        crashes = self._site.crashes[cell.variant.name, self.control]
        if crashes >= MOST_CRASHES:
            return self._record("crash", "start", reason=f"not tried: {crashes} cells of {cell.variant.name} crashed")
        try:
            worker = self._ready_worker(cell)
            worker.log_to(self._log_path(cell))
            reply = worker.request(
                "open", self._deadline_s, workload=cell.workload.share.to_json(), protocol=self._protocol.to_json()
            )
        except WorkerLostError as lost:
            return self._lost(lost)
        if reply.get("status") != "ready":
            return self._ended(reply)
        try:
            self._now.call_ns, self._now.first_call_ns = float(reply["call_ns"]), float(reply["first_call_ns"])
            self._now.error = reply["error"]
            for flag in reply.get("flags", []):
                self.flag(str(flag))
        except MALFORMED as error:
            return self._malformed(error)
        return None

    def block(self, round_number: int, duration_ns: float) -> Record | None:
        """Time one block and keep its samples."""
        began = time.monotonic_ns()
        try:
            reply = self._the_worker.request("block", self._deadline_s, duration_ns=duration_ns)
        except WorkerLostError as lost:
            return self._lost(lost)
        if reply.get("status") != "ready":
            return self._ended(reply)
        try:
            block = Block.from_json({name: value for name, value in reply.items() if name != "status"})
            problem = block.contradicts(time.monotonic_ns() - began)
            if problem is None:
                self._add(round_number, block)
        except MALFORMED as error:
            return self._malformed(error)
        return self._ended({"status": "error", "phase": "measure", "reason": problem}) if problem else None

    def _add(self, round_number: int, block: Block) -> None:
        samples = block.samples_ns
        self._now.samples_ns += samples
        self._now.block_sizes.append(len(samples))
        self._now.block_rounds.append(round_number)
        for suspect in block.suspects:
            self.flag(suspect.partition(":")[0])
        self._now.telemetry.append({**block.telemetry, **({"suspects": block.suspects} if block.suspects else {})})
        if not self.stopping.done:
            self.stopping.add(samples, block.wall_ns)

    def close(self) -> Record:
        """End the cell: last conformance, memory, kernels."""
        try:
            reply = self._the_worker.request("close", self._deadline_s)
        except WorkerLostError as lost:
            return self._lost(lost)
        if reply.get("status") != "ok":
            return self._ended(reply)
        try:
            return self._measured(reply["memory"], reply["kernels"])
        except MALFORMED as error:
            return self._malformed(error)

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

    def refuse(self, cell: Cell, status: str, reason: str, *flags: str) -> Record:
        """Record a cell as `unsupported` or `out_of_memory` without starting anything."""
        self._progress = Progress(cell, now())
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
    def _now(self) -> Progress:
        assert self._progress is not None, "open a cell first"  # noqa: S101 - our own order of calls
        return self._progress

    @property
    def _the_worker(self) -> Worker:
        assert self._worker is not None, "open a cell first"  # noqa: S101 - our own order of calls
        return self._worker

    def start(self, cell: Cell) -> None:
        """Start the worker without waiting for it, so that several import torch at once."""
        if self._worker is None:
            self._worker = start_worker(cell.device, cell.variant, self._site.terms.host_memory_bytes)
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
            self._loaded = reply if reply.get("status") == "ready" else self._loss(reply)
        except WorkerLostError as lost:
            self._loaded = lost

    def _ready_worker(self, cell: Cell) -> Worker:
        self.start(cell)
        self.settle()
        if isinstance(self._loaded, WorkerLostError):
            raise self._loaded
        return self._the_worker

    @staticmethod
    def _loss(reply: dict[str, Any]) -> WorkerLostError:
        status, phase = str(reply.get("status")), str(reply.get("phase", "import"))
        return WorkerLostError(status if status in STATUSES else "error", phase, str(reply.get("reason")))

    def _lost(self, lost: WorkerLostError) -> Record:
        if self._site.at_once():
            record = self.abandon()
        else:
            self._site.crashes[self.variant, self.control] += lost.status == "crash"
            record = self._record(lost.status, lost.phase, reason=lost.reason)
        self.stop()
        return record

    def _ended(self, reply: dict[str, Any]) -> Record:
        """Record what the worker said; an exception may have tainted the process, so the next cell gets a new one."""
        try:
            reason, phase = str(reply.get("reason"))[:LONGEST_REASON], str(reply.get("phase", "measure"))
            record = self._record(str(reply["status"]), phase, reason=reason, error=reply.get("error"))
        except MALFORMED as error:
            return self._malformed(error)
        if reply["status"] not in ("unsupported", "incorrect"):
            self.stop()
        return record

    def _malformed(self, error: BaseException) -> Record:
        """Record that the worker's answer makes no sense; whatever tampered with it, the next cell gets a new one."""
        reason = f"the worker's answer does not fit: {describe(error)}"[:LONGEST_REASON]
        record = self._record("error", "measure", reason=reason, error=None)
        self.stop()
        return record

    def _log_path(self, cell: Cell) -> Path:
        suffix = "-control" if self.control else ""
        return self._site.run / "logs" / f"{cell.cell_id}{suffix}.log"

    def _record(self, status: str, phase: str, **fields: Any) -> Record:
        log = self._worker.log if self._worker else None
        record = self._now.record(self._site, status, phase, log, control=self.control, **fields)
        self._progress = None
        return record


class Lanes:
    """The lanes of one device, made when first asked for and kept warm."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lanes: dict[tuple[str, bool], Lane] = {}

    @property
    def protocol(self) -> MeasureConfig:
        """How the device's cells are measured."""
        return self._site.protocol

    @property
    def terms(self) -> Terms:
        """What the device's cells may take."""
        return self._site.terms

    def of(self, cell: Cell, *, control: bool = False) -> Lane:
        """Give the lane of a cell's variant."""
        return self._lanes.setdefault((cell.variant.name, control), Lane(self._site, control=control))

    @property
    def are_open(self) -> bool:
        """Whether any cell is open."""
        return any(lane.is_open for lane in self._lanes.values())

    def stop(self, but: Collection[str] = ()) -> None:
        """End all workers but those of some variants."""
        for (variant, _), lane in self._lanes.items():
            if variant not in but:
                lane.stop()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds spent in each phase by workers that have ended."""
        total: dict[str, float] = {}
        for lane in self._lanes.values():
            for phase, seconds in lane.seconds.items():
                total[phase] = total.get(phase, 0.0) + seconds
        return total
