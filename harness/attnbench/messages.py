"""The typed messages between the supervisor and its workers, and their form on the pipe.

The supervisor sends one request at a time. The worker answers it with any number of notices and then one reply; a
`FailedReply` stands in for any other. A message is one line of JSON:

    {"id": "4f0c...", "body": {"type": "BlockRequest", "duration_ns": 2e7}}

The id is random and new for each request, and every answer repeats it. Code of a plugin that writes to the pipe can't
pass for the worker, because it does not have the id. NaN and infinities are sent as null. The receiver checks the type
of every field, and runs the checks of workloads and measure configs.

Both sides import this module; it imports neither torch nor a plugin.
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

Json = dict[str, Any]  # an object that is stored or passed on as it is
Positive = Annotated[float, msgspec.Meta(gt=0)]
CLOCK_TOLERANCE = 0.02  # relative difference that is allowed between two clocks


class MessageError(AttnbenchError):
    """A line on the pipe is not a message of the harness, or its fields are wrong."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of all messages. The field `type` of the JSON holds the name of the class."""


class DescribeRequest(Message, frozen=True):
    """Load plugins and describe each one. `skip` maps the names of plugins not to load to the reasons."""

    sources: list[PluginSource]
    skip: dict[str, str] = {}


class SupportQuestion(msgspec.Struct, frozen=True):
    """A variant of a SupportRequest, and the source of its plugin."""

    variant: str
    source: PluginSource


class SupportRequest(Message, frozen=True):
    """Ask variants which workloads they support on a kind of device. `skip` maps variants to leave out to reasons."""

    questions: list[SupportQuestion]
    workloads: list[Workload]
    device: str
    skip: dict[str, str] = {}


class PeaksRequest(Message, frozen=True):
    """Measure the device's peak rates for each dtype."""

    device: str
    dtypes: list[str]


class CheckRequest(Message, frozen=True):
    """Run the conformance suite on a variant, except for the tests whose ids are in `done`."""

    source: PluginSource
    variant: str
    device: str
    level: Literal["quick", "full", "thorough"]
    seed: int = 0
    only: list[str] | None = None
    plugin: str | None = None
    done: list[str] = []


class ExplainRequest(Message, frozen=True):
    """Explain a check of the conformance suite."""

    check: str


class ObserveRequest(Message, frozen=True):
    """Call the hook of an event in the observing plugins; `sources` names the plugins in the first request only."""

    hook: str
    argument: Json
    sources: list[PluginSource] | None = None


class LoadRequest(Message, frozen=True):
    """Import torch and the plugin of one variant; the requests that follow concern this variant."""

    source: PluginSource
    variant: str
    device: str


class OpenRequest(Message, frozen=True):
    """Prepare a cell: set-up, first call, conformance, warm-up."""

    workload: Workload
    config: MeasureConfig


class BlockRequest(Message, frozen=True):
    """Take samples of the open cell for about `duration_ns`."""

    duration_ns: float


class CloseRequest(Message, frozen=True):
    """Finish the open cell: conformance once more, memory, kernels."""


class PhaseNotice(Message, frozen=True):
    """A phase begins. The supervisor applies the phase's deadline and names the phase if the worker is lost."""

    phase: str


class AboutNotice(Message, frozen=True):
    """The worker is about to run code of this plugin or variant. If the worker is lost now, this code is the cause."""

    name: str


class VariantDescription(msgspec.Struct, frozen=True):
    """A variant as its plugin declares it; the fields are those of `plugins.variant.Variant`."""

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


class GridDescription(msgspec.Struct, frozen=True):
    """A grid of a plugin's suite."""

    title: str
    source: str
    workloads: list[Workload]


class SuiteDescription(msgspec.Struct, frozen=True):
    """A plugin's suite."""

    name: str
    description: str
    source: str
    budget_s: float | None
    frontier: bool
    grids: list[GridDescription]


class PluginNotice(Message, frozen=True):
    """What a plugin offers, or the `reason` why it did not load and the `remedy`."""

    source: PluginSource
    reason: str | None = None
    remedy: str | None = None
    sha256: str = ""
    file: str | None = None
    variants: list[VariantDescription] = []
    suites: list[SuiteDescription] = []
    observes: list[str] = []


class SupportNotice(Message, frozen=True):
    """For each workload of the request the reason why the variant does not support it, or None."""

    variant: str
    reasons: list[str | None]


class CheckStartNotice(Message, frozen=True):
    """A test of the conformance suite starts; `repro` is the command that runs it alone."""

    id: str
    check: str
    workload_id: str
    remedy: str
    repro: str


class CheckResultNotice(Message, frozen=True):
    """The outcome of a conformance test, in the JSON form of a `CheckResult`."""

    id: str
    result: Json


class DoneReply(Message, frozen=True):
    """The request was carried out; its results, if any, came as notices."""


class FailedReply(Message, frozen=True):
    """The request did not succeed. `status`, `phase`, `reason` and `error` are those of the cell's record."""

    status: Literal["unsupported", "incorrect", "out_of_memory", "error"]
    phase: str
    reason: str
    error: Json | None = None


class PeaksReply(Message, frozen=True):
    """Peak rates by dtype, and the facts of the environment that need torch."""

    peaks: dict[str, dict[str, float]]
    facts: Json


class ExplainReply(Message, frozen=True):
    """What a check demands, why, and the usual bug behind a failure."""

    text: str


class ObserveReply(Message, frozen=True):
    """The exceptions that observers raised, one line each."""

    problems: list[str]


class OpenReply(Message, frozen=True):
    """The cell is ready. `call_ns` is the warm-up's estimate of one call; `error` what the conformance check found."""

    first_call_ns: float
    call_ns: float
    error: Json
    flags: list[str] = []


class Suspicion(msgspec.Struct, frozen=True):
    """A finding that makes a cell's times doubtful. `kind` becomes a flag of the record, e.g. `side_stream`."""

    kind: str
    text: str


class Block(Message, frozen=True):
    """One block of samples: the reply to a BlockRequest.

    - `samples_ns`: nanoseconds per call, in order, at least one; each is the mean over `calls_per_sample` calls
    - `wall_ns`: wall time of the whole block, which the supervisor compares with its own clock
    - `device_ns`, `synchronised_ns`: one further call by device events, and by wall time to an all-device
      synchronise; None where the device has no clock of its own
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
        """Return why the times can't be right if the supervisor waited `elapsed_ns` for the block, or None."""
        if self.wall_ns > elapsed_ns * (1 + CLOCK_TOLERANCE):
            return (
                f"patched clock: the block took {self.wall_ns / 1e6:.3f} ms by the worker's clock, "
                f"{elapsed_ns / 1e6:.3f} ms by its supervisor's"
            )
        timed = sum(self.samples_ns) * self.calls_per_sample
        if timed > self.wall_ns * (1 + CLOCK_TOLERANCE):
            return f"samples of {timed / 1e6:.3f} ms do not fit into a block of {self.wall_ns / 1e6:.3f} ms"
        return None


class CloseReply(Message, frozen=True):
    """Memory (bytes) and kernels of the cell; see `measure.memory.Memory` and `measure.kernels.Kernels`."""

    peak_bytes: int | None = None
    saved_bytes: int | None = None
    reserved_bytes: int | None = None
    driver_bytes: int | None = None
    kernels: tuple[str, ...] | None = None
    backend: str | None = None
    kernels_reason: str | None = None


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
)
Notice = PhaseNotice | AboutNotice | PluginNotice | SupportNotice | CheckStartNotice | CheckResultNotice
Reply = DoneReply | FailedReply | PeaksReply | ExplainReply | ObserveReply | OpenReply | Block | CloseReply


def failure_reason(reply: Reply) -> str:
    """Return the reason why a reply does not bring the expected result."""
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
    """Return the line that carries a message, newline included. Raises TypeError for values that JSON does not have."""
    line = {"id": identity, "body": message}
    try:
        return msgspec.json.encode(line, enc_hook=_plain) + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, e.g. in a file name that is not UTF-8, is sent as "?"
        text = json.dumps(msgspec.to_builtins(line, enc_hook=_plain), ensure_ascii=False)
        return msgspec.json.encode(json.loads(text.encode(errors="replace"))) + b"\n"


def decode_request(line: bytes) -> tuple[str, WorkerRequest]:
    """Return the id and the request of a line from the supervisor."""
    parts = _line_decoder.decode(line)
    return parts.id, _request_decoder.decode(parts.body)


def decode_answer(line: bytes, identity: str) -> Notice | Reply:
    """Return the message of a line from the worker; raises MessageError unless it is a valid answer to `identity`."""
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
    """Return the plain number or text of a subclass, e.g. of numpy.float64, which msgspec does not encode."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
