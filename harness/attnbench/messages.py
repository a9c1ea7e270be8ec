"""The typed messages between the supervisor and its workers, and their encoding.

The supervisor sends one request at a time. The worker answers with any number of notices and then one reply, which is a
`FailedReply` if the request failed. A message is one line of JSON:

    {"id": "4f0c...", "body": {"type": "BlockRequest", "duration_ns": 2e7}}

The id is random and new for each request, and every notice and reply repeats it. A plugin that writes to the pipe can't
imitate the worker, because it does not have the id. NaN and infinities are sent as null. The receiver checks the types
of all fields, and rejects invalid workloads and measure configs.

Both the supervisor and the workers import this module, so it imports neither torch nor a plugin.
"""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any, Literal

import msgspec

from attnbench.errors import AttnbenchError, describe
from attnbench.measure_config import MeasureConfig
from attnbench.plugins.loading import PluginSource
from attnbench.workloads.workload import Workload

Json = dict[str, Any]  # a JSON object that is stored or passed on unchanged
Positive = Annotated[float, msgspec.Meta(gt=0)]
CLOCK_TOLERANCE = 0.02  # largest relative difference allowed between two clocks


class MessageError(AttnbenchError):
    """A line on the pipe was not written by the harness, or the fields of its message are invalid."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of all messages. In JSON, the `type` field holds the name of the message's class."""


class DescribeRequest(Message, frozen=True):
    """A request to load and describe plugins.

    `skip` contains the names of the plugins to leave out, each with the reason for leaving it out.
    """

    sources: list[PluginSource]
    skip: dict[str, str] = {}


class SupportQuestion(msgspec.Struct, frozen=True):
    """The name of a variant in a SupportRequest, and the source of its plugin."""

    variant: str
    source: PluginSource


class SupportRequest(Message, frozen=True):
    """A request to find out which workloads each variant supports on a kind of device.

    `skip` contains the names of the variants to leave out, each with the reason for leaving it out.
    """

    questions: list[SupportQuestion]
    workloads: list[Workload]
    device: str
    skip: dict[str, str] = {}


class PeaksRequest(Message, frozen=True):
    """A request to measure a device's peak rates for each dtype."""

    device: str
    dtypes: list[str]


class CheckRequest(Message, frozen=True):
    """A request to run the conformance suite on a variant, without the tests whose ids are in `done`."""

    source: PluginSource
    variant: str
    device: str
    level: Literal["quick", "full", "thorough"]
    seed: int = 0
    only: list[str] | None = None
    plugin: str | None = None
    done: list[str] = []


class ExplainRequest(Message, frozen=True):
    """A request to explain a check of the conformance suite."""

    check: str


class ObserveRequest(Message, frozen=True):
    """A request to call a hook of the observer plugins. Only the first request lists these plugins in `sources`."""

    hook: str
    argument: Json
    sources: list[PluginSource] | None = None


class LoadRequest(Message, frozen=True):
    """A request to import torch and the plugin of one variant. The requests that follow are about this variant.

    `sha256` is the hash of the plugin's files when the run was planned. The worker fails the cells of a plugin whose
    files have changed. None means that the files are not compared.
    """

    source: PluginSource
    variant: str
    device: str
    sha256: str | None = None


class OpenRequest(Message, frozen=True):
    """A request to prepare a cell: set-up, first call, conformance check and warm-up.

    `again` says that another process has already timed the cell, and has checked it in full before that.
    """

    workload: Workload
    config: MeasureConfig
    again: bool = False


class BlockRequest(Message, frozen=True):
    """A request to take samples of the open cell for about `duration_ns`."""

    duration_ns: float


class CloseRequest(Message, frozen=True):
    """A request to end this process's timing of the open cell.

    If `last` is True, no further process will time the cell. Then the conformance check is repeated, and the reply
    reports the memory of a call. Otherwise the cell is dropped.
    """

    last: bool = True


class ProfileRequest(Message, frozen=True):
    """A request to list the kernels of the open cell, and then to drop the cell.

    It is separate from CloseRequest, because a profiler that crashes does not make the measured times invalid.
    """


class PhaseNotice(Message, frozen=True):
    """A notice that a phase begins.

    The supervisor then applies the phase's deadline, and names the phase in the error if the worker is lost.
    """

    phase: str


class AboutNotice(Message, frozen=True):
    """A notice that the worker is about to run the code of a plugin or variant.

    If the worker is lost before the next notice, the supervisor assumes that this code is the cause.
    """

    name: str


class VariantDescription(msgspec.Struct, frozen=True):
    """A variant as its plugin declares it.

    `summary` is the first line of the variant's docstring. The other fields are those of `plugins.variant.Variant`.
    """

    name: str
    layout: str
    tier: str
    exact: bool
    default_on: tuple[str, ...]
    ranks: int
    packages: tuple[str, ...]
    baseline: bool
    traits: tuple[str, ...]
    summary: str
    alignment_bytes: int = 1


class GridDescription(msgspec.Struct, frozen=True):
    """One grid of workloads in a plugin's suite."""

    title: str
    source: str
    workloads: list[Workload]


class SuiteDescription(msgspec.Struct, frozen=True):
    """A suite that a plugin offers."""

    name: str
    description: str
    source: str
    budget_s: float | None
    frontier: bool
    grids: list[GridDescription]


class PluginNotice(Message, frozen=True):
    """A notice that describes a plugin. If the plugin did not load, `reason` says why and `remedy` how to fix it."""

    source: PluginSource
    reason: str | None = None
    remedy: str | None = None
    sha256: str = ""
    file: str | None = None
    variants: list[VariantDescription] = []
    suites: list[SuiteDescription] = []
    observes: list[str] = []


class SupportNotice(Message, frozen=True):
    """A notice with one variant's answer to a SupportRequest.

    `reasons` has one entry for each workload of the request: why the variant does not support it, or None if it does.
    """

    variant: str
    reasons: list[str | None]


class CheckStartNotice(Message, frozen=True):
    """A notice that a test of the conformance suite starts. `repro` is the command that runs only this test."""

    id: str
    check: str
    workload_id: str
    remedy: str
    repro: str


class CheckResultNotice(Message, frozen=True):
    """A notice that a conformance test has finished. `result` is a `CheckResult` in its JSON form."""

    id: str
    result: Json


class DoneReply(Message, frozen=True):
    """The reply to a request that succeeded. Any results were sent as notices.

    `tests_remain` is True if the conformance suite stopped after a CUDA error, with tests left for another process.
    """

    tests_remain: bool = False


class FailedReply(Message, frozen=True):
    """The reply to a failed request. Its fields are copied to the fields of the same names in the cell's record.

    `gpu_lost` is not copied: it is True if the worker has ended after this reply, because of a CUDA error.
    """

    status: Literal["unsupported", "incorrect", "out_of_memory", "error"]
    phase: str
    reason: str
    error: Json | None = None
    gpu_lost: bool = False
    flags: list[str] = []


class PeaksReply(Message, frozen=True):
    """The reply to a PeaksRequest: peak rates by dtype, and facts about the environment that only torch can report."""

    peaks: dict[str, dict[str, float]]
    facts: Json


class ExplainReply(Message, frozen=True):
    """The reply to an ExplainRequest. `text` says what the check requires, why, and which bug usually makes it fail."""

    text: str


class ObserveReply(Message, frozen=True):
    """The reply to an ObserveRequest. `problems` has one line for each exception that an observer raised."""

    problems: list[str]


class OpenReply(Message, frozen=True):
    """The reply to an OpenRequest if the cell is ready to be timed.

    `call_ns` is the duration of one call, as estimated by the warm-up. `error` is the verdict of the conformance check,
    or None if the cell had been checked before.
    """

    first_call_ns: float
    call_ns: float
    error: Json | None
    flags: list[str] = []


class Suspicion(msgspec.Struct, frozen=True):
    """A finding that makes a cell's times doubtful. `kind` becomes a flag of the record, e.g. `side_stream`."""

    kind: str
    text: str


class Block(Message, frozen=True):
    """One block of samples: the reply to a BlockRequest.

    - `samples_ns`: the samples in the order in which they were taken, at least one; each is the time per call in ns,
      averaged over `calls_per_sample` calls
    - `wall_ns`: wall time of the whole block, which the supervisor compares with its own clock
    - `device_ns`, `synchronised_ns`: the duration of one further call: by device events, and as the wall time until all
      devices are synchronised; both are None on a device that runs calls synchronously
    - `telemetry`: the machine's state during the block; `throttle` lists the reasons for throttling
    - `suspicions`: findings that make the times doubtful
    """

    samples_ns: Annotated[list[Positive], msgspec.Meta(min_length=1)]
    calls_per_sample: Annotated[int, msgspec.Meta(ge=1)]
    wall_ns: Positive
    device_ns: float | None = None
    synchronised_ns: float | None = None
    telemetry: Json = {}
    suspicions: tuple[Suspicion, ...] = ()

    def contradiction(self, elapsed_ns: float) -> str | None:
        """Return why the times can't be right, or None if they are plausible.

        `elapsed_ns` is the time for which the supervisor waited for the block.
        """
        if self.wall_ns > elapsed_ns * (1 + CLOCK_TOLERANCE):
            return (
                f"patched clock: the block took {self.wall_ns / 1e6:.3f} ms by the worker's clock, but "
                f"{elapsed_ns / 1e6:.3f} ms by the supervisor's clock"
            )
        timed = sum(self.samples_ns) * self.calls_per_sample
        if timed > self.wall_ns * (1 + CLOCK_TOLERANCE):
            return f"samples of {timed / 1e6:.3f} ms do not fit into a block of {self.wall_ns / 1e6:.3f} ms"
        return None


class CloseReply(Message, frozen=True):
    """The reply to a CloseRequest: the cell's memory in bytes. See `measure.memory.Memory`.

    `suspicions` are findings that make the times of the whole cell doubtful.
    """

    peak_bytes: int | None = None
    saved_bytes: int | None = None
    reserved_bytes: int | None = None
    driver_bytes: int | None = None
    harness_bytes: int | None = None
    suspicions: tuple[Suspicion, ...] = ()


class ProfileReply(Message, frozen=True):
    """The reply to a ProfileRequest: the cell's kernels. See `measure.kernels.Kernels`.

    If `detached` is False, the profiler may slow down later calls, so the worker must not time another cell.
    """

    kernels: tuple[str, ...] | None = None
    backend: str | None = None
    kernels_reason: str | None = None
    detached: bool = False


WorkerRequest = (
    DescribeRequest
    | SupportRequest
    | PeaksRequest
    | CheckRequest
    | ExplainRequest
    | ObserveRequest
    | LoadRequest
    | OpenRequest
    | BlockRequest
    | CloseRequest
    | ProfileRequest
)
Notice = PhaseNotice | AboutNotice | PluginNotice | SupportNotice | CheckStartNotice | CheckResultNotice
Reply = (
    DoneReply | FailedReply | PeaksReply | ExplainReply | ObserveReply | OpenReply | Block | CloseReply | ProfileReply
)


def failure_reason(reply: Reply) -> str:
    """Return the reason why a request failed, given a reply that is not of the expected type."""
    return reply.reason if isinstance(reply, FailedReply) else f"the worker sent an unexpected {type(reply).__name__}"


class _Line(msgspec.Struct):
    """One line on the pipe: a message with the id of its request."""

    id: str
    body: msgspec.Raw


_line_decoder = msgspec.json.Decoder(_Line)
_request_decoder = msgspec.json.Decoder(WorkerRequest)
_answer_decoder: msgspec.json.Decoder[Notice | Reply] = msgspec.json.Decoder(Notice | Reply)


def new_id() -> str:
    """Return a random id for a request."""
    return secrets.token_hex(16)


def encode(identity: str, message: Message) -> bytes:
    """Return a message and the id of its request as one line, including the newline.

    Raises TypeError if a value can't be represented in JSON.
    """
    line = {"id": identity, "body": message}
    try:
        return msgspec.json.encode(line, enc_hook=_plain) + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, e.g. in a file name that is not UTF-8, is sent as "?"
        text = json.dumps(msgspec.to_builtins(line, enc_hook=_plain), ensure_ascii=False)
        return msgspec.json.encode(json.loads(text.encode(errors="replace"))) + b"\n"


def decode_request(line: bytes) -> tuple[str, WorkerRequest]:
    """Return the id and the request that a line from the supervisor contains."""
    parts = _line_decoder.decode(line)
    return parts.id, _request_decoder.decode(parts.body)


def decode_answer(line: bytes, identity: str) -> Notice | Reply:
    """Return the message that a line from the worker contains.

    Raises MessageError if the line is not a valid answer to the request with the id `identity`.
    """
    try:
        parts = _line_decoder.decode(line)
        authentic = secrets.compare_digest(parts.id.encode(), identity.encode())
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        authentic = False
    if not authentic:
        raise MessageError(f"something other than the harness wrote to the results pipe: {line[:80]!r}")
    try:
        return _answer_decoder.decode(parts.body)
    except (msgspec.DecodeError, AttnbenchError, RecursionError, UnicodeDecodeError) as error:
        raise MessageError(f"the worker's answer does not fit: {describe(error)}") from None


def _plain(value: Any) -> Any:
    """Convert an instance of a subclass of str, int or float, e.g. numpy.float64, so that msgspec can encode it.

    Raises TypeError for a value of any other type.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
