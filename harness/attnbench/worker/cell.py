"""Measure the cells of one variant on one device. Each cell is opened, timed in blocks, and closed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

# The first call of `torch.autograd.grad` imports this module, and with it sympy. It is imported here, so that the fork
# server does it once, and not every worker in its first call.
import torch.fx.experimental.symbolic_shapes

from attnbench.conformance.layer_gate import gate_of
from attnbench.device_names import device_type
from attnbench.errors import MeasurementError, PluginError
from attnbench.measure.anticheat.integrity import ProcessState
from attnbench.measure.cache_flush import cache_bytes
from attnbench.measure.cupti import profile_and_detach
from attnbench.measure.kernels import kernels_of
from attnbench.measure.memory import measure_memory, watch_peak
from attnbench.measure.sampler import Sampler
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
    WorkerRequest,
)
from attnbench.plugins.loading import PluginSource, source_sha256, variant_of
from attnbench.tensors.prepared_call import prepare_call

if TYPE_CHECKING:
    from attnbench.conformance.gate import Gate, Verdict
    from attnbench.conformance.layer_gate import LayerGate
    from attnbench.measure_config import MeasureConfig
    from attnbench.plugins.variant import Timed
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

AnyReply = TypeVar("AnyReply", bound=Reply)


class Session:
    """A session that measures the cells of one variant on one device, one after the other.

    At most one cell is open at a time. `operations` maps each type of request to the method that handles it. `sha256`
    is the hash of the plugin's files when the run was planned, or None if their changes don't matter. If the files have
    changed, this method and those that open and close a cell raise PluginError.
    """

    def __init__(
        self, enter: Callable[[str], None], source: PluginSource, variant: str, device: str, sha256: str | None = None
    ) -> None:
        self._enter = enter
        self._source, self._sha256 = source, sha256
        self._device = device
        self._cell: OpenCell | None = None
        self._process_state = ProcessState()  # recorded before the plugin is imported
        self._refuse_changed_files()
        self._variant = variant_of(source, variant)
        self._refuse_changed_files()  # the plugin may have changed its own files when it was imported
        self.operations: dict[type[WorkerRequest], Callable[[Any], Reply]] = {
            OpenRequest: self._open,
            BlockRequest: self._block,
            CloseRequest: self._close,
            ProfileRequest: self._profile,
        }
        gc.collect()
        # Exempt imported modules from the garbage collection after each cell, which saves about 0.1 s per cell.
        gc.freeze()

    def _open(self, request: OpenRequest) -> OpenReply | FailedReply:
        """Open a cell: prepare the variant, call it once, check its answers, and warm up.

        Returns a FailedReply if the variant does not support the workload or gives wrong answers.
        """
        self._drop_cell()
        self._refuse_changed_files()
        workload = request.workload
        self._enter("prepare")
        reason = self._variant.unsupported_reason(workload.attention, device_type(self._device))
        if reason is not None:
            if not isinstance(reason, str):
                raise PluginError(f"unsupported_reason returned {reason!r}: expected a string or None")
            return FailedReply("unsupported", "prepare", reason)
        with self._calling():
            self._cell = self._prepared(workload, request.config)
            return self._dropped_if_failed(self._cell.open(again=request.again))

    def _block(self, request: BlockRequest) -> Block | FailedReply:
        """Time one block of calls, and then check the excerpts of their results that the sampler kept."""
        with self._calling():
            return self._dropped_if_failed(self._opened().block(request.duration_ns))

    def _close(self, request: CloseRequest) -> CloseReply | FailedReply:
        """End the cell's timing, and drop the cell if another process will time it."""
        self._refuse_changed_files()
        with self._calling():
            reply = self._dropped_if_failed(self._opened().close(last=request.last))
        if not request.last:
            self._drop_cell()
        return reply

    def _profile(self, _: ProfileRequest) -> ProfileReply:
        """List the kernels, and drop the cell."""
        with self._calling():
            reply = self._opened().profile()
        self._drop_cell()
        return reply

    def _refuse_changed_files(self) -> None:
        """Raise PluginError if the plugin's files have changed since the run was planned.

        The code of this process may then differ from that of other workers, and from what the record says.
        """
        if self._sha256 is not None and source_sha256(self._source) != self._sha256:
            raise PluginError(
                f"the files of plugin {self._source.name} changed during the run: this cell's code would not be what "
                "its record says; resume the run to measure the plugin's cells with the present files"
            )

    def _calling(self) -> AbstractContextManager[None]:
        """Return the variant's calling context, which is entered once for each request, outside every timed call."""
        return self._process_state.calling(self._variant.calling_context())

    def _prepared(self, workload: Workload, protocol: MeasureConfig) -> OpenCell:
        inputs, call = prepare_call(self._variant, workload, self._device, protocol.seed)
        if not callable(call):
            raise PluginError(f"prepare returned {call!r}: expected a callable without arguments")
        gate = gate_of(self._variant, workload, inputs, call, protocol.seed)
        sampler = Sampler(
            call, inputs, workload, self._device, protocol, process_state=self._process_state, excerpt=gate.excerpt
        )
        return OpenCell(self._enter, workload, self._device, inputs, call, gate, sampler)

    def _opened(self) -> OpenCell:
        if self._cell is None:
            raise PluginError("no cell is open")
        return self._cell

    def _dropped_if_failed(self, reply: AnyReply) -> AnyReply:
        if isinstance(reply, FailedReply):
            self._drop_cell()
        return reply

    def _drop_cell(self) -> None:
        self._cell = None
        gc.collect()
        if device_type(self._device) == "cuda":
            torch.cuda.empty_cache()


@dataclass
class OpenCell:
    """A cell that is being measured.

    - `enter`: a function that reports the name of a phase when the phase begins
    - `inputs`, `call`: the workload's inputs and the callable that is timed
    - `gate`: the gate that checks the variant's answers
    - `sampler`: the sampler that times the calls
    """

    enter: Callable[[str], None]
    workload: Workload
    device: str
    inputs: Inputs
    call: Timed
    gate: Gate | LayerGate
    sampler: Sampler

    def open(self, *, again: bool = False) -> OpenReply | FailedReply:
        """Make the first call, check the variant's answers, and warm up.

        `again` says that another process has already checked the variant on this workload and timed it. Then the full
        check is skipped here. An answer of each block is checked in every process, and the last process makes a full
        check after the timing. The variant is not told which process that is.
        """
        self.enter("first_call")
        first_call_ns = self.sampler.first_call()
        watch_peak(self.device)
        error = None
        if not again:
            self.enter("conform")
            verdict = self.gate.before()
            self.sampler.refuse_changes()
            if not verdict.passed:
                return _incorrect(verdict, "conform")
            error = verdict.to_json()
        self.enter("warm_up")
        warm_up = self.sampler.warm_up()
        flags = [] if warm_up.steady else ["warm_up_cap"]
        return OpenReply(first_call_ns, warm_up.ns_per_call, error, flags)

    def block(self, duration_ns: float) -> Block | FailedReply:
        """Time calls for about `duration_ns`, and then check the excerpts of their results that the sampler kept."""
        self.enter("measure")
        block = self.sampler.block(duration_ns)
        self.enter("recheck")
        verdict = self.gate.recheck(self.sampler.take_excerpts())
        self.sampler.refuse_changes()
        return block if verdict.passed else _incorrect(verdict, "recheck")

    def close(self, *, last: bool) -> CloseReply | FailedReply:
        """Judge the times of the audited calls. If `last`, check the answers again and measure memory, both untimed."""
        self.enter("measure")
        suspicions = self.sampler.second_look()
        if not last:
            return CloseReply(suspicions=suspicions)
        self.enter("conform")
        verdict = self.gate.after()
        self.sampler.refuse_changes()
        if not verdict.passed:
            return _incorrect(verdict, "conform")
        self.enter("memory")
        memory = measure_memory(self.call, self.inputs, self.workload, self.device)
        return CloseReply(**memory.to_json(), suspicions=suspicions)

    def profile(self) -> ProfileReply:
        """List the kernels of an untimed call."""
        self.enter("profile")
        kernels, detached = profile_and_detach(
            lambda: kernels_of(self.call, self.inputs, self.workload, self.device), self.device
        )
        return ProfileReply(kernels.names, kernels.backend, kernels.reason, detached)


def _incorrect(verdict: Verdict, phase: str) -> FailedReply:
    return FailedReply("incorrect", phase, str(verdict.reason), verdict.to_json())


def facts(device: str) -> dict[str, Any]:
    """Return what only torch can report about the environment.

    These are versions, compute capability, number of threads, and the size of the last-level cache.
    """
    cuda = device_type(device) == "cuda"
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "capability": list(torch.cuda.get_device_capability(device)) if cuda else None,
        "threads": torch.get_num_threads(),
        "cache_bytes": _cache_bytes(device),
    }


def _cache_bytes(device: str) -> int | None:
    try:
        return cache_bytes(device)
    except MeasurementError:
        return None
