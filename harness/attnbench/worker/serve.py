"""The worker's main loop, which handles one request at a time and turns exceptions into failed replies."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from attnbench.conformance.cuda_errors import REPORTED_LATE, cuda_error, gpu_failure
from attnbench.errors import HarnessMemoryError, PluginError, UsageError, describe, is_out_of_memory
from attnbench.messages import (
    AboutNotice,
    CheckRequest,
    CheckResultNotice,
    CheckStartNotice,
    DescribeRequest,
    DoneReply,
    ExplainReply,
    ExplainRequest,
    FailedReply,
    GridDescription,
    LoadRequest,
    Notice,
    ObserveReply,
    ObserveRequest,
    PeaksReply,
    PeaksRequest,
    PhaseNotice,
    PluginNotice,
    Reply,
    SuiteDescription,
    SupportNotice,
    SupportRequest,
    VariantDescription,
    WorkerRequest,
    decode_request,
    encode,
)
from attnbench.plugins.loading import Plugin, call_hook, load_all, load_plugin, observes, variant_of
from attnbench.record import HARNESS_OUT_OF_MEMORY


class Channel:
    """The worker's connection to the supervisor.

    Requests are read from one pipe, and notices and replies are written to another. Each notice and reply carries the
    id of the current request.
    """

    def __init__(self, requests: int, replies: int) -> None:
        self._requests = os.fdopen(requests, "rb")
        self._replies = replies
        self._id = ""
        os.set_inheritable(requests, False)
        os.set_inheritable(replies, False)
        self._write = os.write  # saved before the plugin is imported, because a plugin could patch os.write

    def requests(self) -> Iterator[WorkerRequest]:
        """Yield requests until the supervisor closes its end of the pipe."""
        for line in self._requests:
            self._id, request = decode_request(line)
            yield request

    def send(self, message: Notice | Reply) -> None:
        """Send a notice or reply for the current request."""
        data = encode(self._id, message)
        while data:
            data = data[self._write(self._replies, data) :]


IMPORT_REMEDY = "move the import that ends the process into prepare, where it fails only one cell"
EVENTS = ("run_started", "cell_started", "record_stored", "run_ended")  # names of observer hooks without their prefix


def serve(requests: int, replies: int) -> None:
    """Handle requests until the supervisor closes the pipe, or until a CUDA error occurs.

    The arguments are the file descriptors of the pipes for requests and replies.
    """
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    channel = Channel(requests, replies)
    server = WorkerServer(channel)
    for request in channel.requests():
        try:
            reply = server.answer(request)
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, and the reply reports it
            traceback.print_exc()
            reply = server.failure(error)
        reply = server.checked(reply)
        channel.send(reply)
        sys.stdout.flush()
        if server.gpu_lost:
            break
    os._exit(0)  # unlike sys.exit, this runs no exit handlers and does not wait for threads that a plugin started


class WorkerServer:
    """The handler of all requests that a worker process receives.

    It stores the plugins that observe the run, and the operations for the loaded variant.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._phase = "import"
        self._observers: list[Plugin] = []
        self.gpu_lost = False
        self._operations: dict[type[WorkerRequest], Callable[[Any], Reply]] = {
            DescribeRequest: self._describe,
            SupportRequest: self._ask_support,
            PeaksRequest: self._measure_peaks,
            CheckRequest: self._check,
            ExplainRequest: self._explain,
            ObserveRequest: self._observe,
            LoadRequest: self._load,
        }

    def answer(self, request: WorkerRequest) -> Reply:
        """Handle a request and return its reply. Exceptions from plugins are not caught."""
        return self._operations[type(request)](request)

    def enter(self, phase: str) -> None:
        """Report to the supervisor that a phase begins.

        The supervisor then applies the phase's deadline. If this process dies or hangs, the supervisor names the
        phase in the error.
        """
        self._phase = phase
        self._channel.send(PhaseNotice(phase))

    def failure(self, error: BaseException) -> FailedReply:
        """Return the reply that reports an exception."""
        reason = str(getattr(error, "reason_for_user", None) or describe(error))
        if cuda_error(error) is not None:
            self.gpu_lost = True
            reason = f"{reason}; {REPORTED_LATE}"
        status: Literal["out_of_memory", "error"] = "out_of_memory" if is_out_of_memory(error) else "error"
        flags = [HARNESS_OUT_OF_MEMORY] if isinstance(error, HarnessMemoryError) else []
        return FailedReply(status, self._phase, reason, flags=flags)

    def checked(self, reply: Reply) -> Reply:
        """Return the reply to send after the GPU was checked.

        If the GPU can no longer be used, the reply says so. A measurement that seemed to succeed then has failed, and
        its error was only reported too late.
        """
        failure = gpu_failure()
        self.gpu_lost |= failure is not None
        if not self.gpu_lost or isinstance(reply, DoneReply):
            return reply
        if not isinstance(reply, FailedReply):
            reply = FailedReply("error", self._phase, f"the GPU reported {failure}; {REPORTED_LATE}")
        return msgspec.structs.replace(reply, gpu_lost=True)

    def _describe(self, request: DescribeRequest) -> DoneReply:
        """Load the requested plugins and send a description of each plugin.

        A notice is sent before each plugin is loaded, so that the supervisor can identify a plugin that crashes or ends
        the process.
        """
        skipped = {
            name: PluginError(f"import ended the process: {reason}", IMPORT_REMEDY)
            for name, reason in request.skip.items()
        }
        for source, outcome in load_all(request.sources, skipped):
            if outcome is None:
                self._channel.send(AboutNotice(source.name))
            elif isinstance(outcome, PluginError):
                self._channel.send(PluginNotice(source, str(outcome), outcome.remedy))
            else:
                self._channel.send(_described(outcome))
        return DoneReply()

    def _ask_support(self, request: SupportRequest) -> DoneReply:
        """For each variant, report which of the requested workloads it does not support, and why.

        A variant that raises an exception is skipped here, because the exception will be recorded when the variant's
        cells are measured.
        """
        for question in request.questions:
            if question.variant in request.skip:
                continue
            self._channel.send(AboutNotice(question.variant))
            try:
                variant = variant_of(question.source, question.variant)
                reasons = [
                    variant.unsupported_reason(workload.attention, request.device) for workload in request.workloads
                ]
            except (Exception, SystemExit):  # noqa: BLE001 - the exception will be recorded with the variant's cells
                traceback.print_exc()
                continue
            if gpu_failure() is not None:
                os._exit(1)  # the supervisor asks the other variants again, in a new process
            if all(reason is None or isinstance(reason, str) for reason in reasons):
                self._channel.send(SupportNotice(question.variant, reasons))
        return DoneReply()

    def _measure_peaks(self, request: PeaksRequest) -> PeaksReply:
        from attnbench.measure.peaks import measure_peaks
        from attnbench.worker.cell import facts

        self.enter("peaks")
        measured = {dtype: measure_peaks(request.device, dtype).to_json() for dtype in request.dtypes}
        return PeaksReply(measured, facts(request.device))

    def _check(self, request: CheckRequest) -> DoneReply:
        """Run the conformance suite, and send a notice before and after each test."""
        from attnbench.conformance.subject import Subject
        from attnbench.conformance.suite import cases, repro, run_case

        variant = variant_of(request.source, request.variant)
        subject = Subject(variant, request.device, request.seed)
        remaining = [
            case
            for case in cases(subject.variant, request.device, request.level, request.only)
            if case.id not in request.done
        ]
        for number, case in enumerate(remaining, 1):
            command = repro(subject, case, request.level, request.plugin)
            self._channel.send(CheckStartNotice(case.id, case.check.name, case.workload.id, case.check.remedy, command))
            result = run_case(subject, case, level=request.level, plugin=request.plugin)
            self._channel.send(CheckResultNotice(case.id, result.to_json()))
            if result.gpu_lost:
                return DoneReply(tests_remain=number < len(remaining))
        return DoneReply()

    def _explain(self, request: ExplainRequest) -> Reply:
        from attnbench.conformance.suite import find_check

        try:
            return ExplainReply(find_check(request.check).explain())
        except UsageError as error:
            return FailedReply("error", self._phase, str(error))

    def _observe(self, request: ObserveRequest) -> ObserveReply:
        """Call one hook of every plugin that observes the run.

        Exceptions are reported as problems and don't affect other plugins.
        """
        if request.sources is not None:
            self._observers = [load_plugin(source) for source in request.sources]
        problems = []
        for plugin in self._observers:
            try:
                call_hook(plugin.hooks, request.hook, request.argument)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - reported as the plugin's problem
                problems.append(f"{plugin.source.name}: {request.hook} raised {describe(error)}")
        return ObserveReply(problems)

    def _load(self, request: LoadRequest) -> DoneReply:
        """Import torch and one variant's plugin, and accept requests for that variant's cells from then on."""
        self.enter("import")
        from attnbench.worker.cell import Session

        session = Session(self.enter, request.source, request.variant, request.device, request.sha256)
        self._operations |= session.operations
        return DoneReply()


def _described(plugin: Plugin) -> PluginNotice:
    variants = [
        VariantDescription(
            variant.name,
            variant.layout,
            variant.tier,
            bool(variant.exact),
            tuple(variant.default_on),
            variant.ranks,
            tuple(variant.packages),
            bool(variant.baseline),
            tuple(sorted(variant.traits)),
            (variant.__doc__ or "").strip().partition("\n")[0],
            variant.alignment_bytes,
        )
        for variant in plugin.variants
    ]
    suites = [
        SuiteDescription(
            suite.name,
            suite.description,
            suite.source,
            suite.budget_s,
            suite.frontier,
            [GridDescription(grid.title, grid.source, list(grid.workloads)) for grid in suite.grids],
        )
        for suite in plugin.suites
    ]
    file = getattr(plugin.module, "__file__", None)
    events = [event for event in EVENTS if observes(plugin, f"attnbench_{event}")]
    return PluginNotice(
        plugin.source,
        sha256=plugin.sha256,
        file=file,
        variants=variants,
        suites=suites,
        observes=events,
    )
