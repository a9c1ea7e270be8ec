"""Messages between supervisor and worker are encoded and decoded without loss, and invalid ones are refused."""

import json
import subprocess
import sys

import numpy as np
import pytest

from attnbench import Workload, messages
from attnbench.measure_config import MeasureConfig
from attnbench.messages import (
    AboutNotice,
    Block,
    BlockRequest,
    CheckRequest,
    CheckResultNotice,
    CheckStartNotice,
    CloseReply,
    CloseRequest,
    DescribeRequest,
    DoneReply,
    ExplainReply,
    ExplainRequest,
    FailedReply,
    GridDescription,
    LoadRequest,
    MessageError,
    ObserveReply,
    ObserveRequest,
    OpenReply,
    OpenRequest,
    PeaksReply,
    PeaksRequest,
    PhaseNotice,
    PluginNotice,
    ProfileReply,
    ProfileRequest,
    SuiteDescription,
    SupportNotice,
    SupportQuestion,
    SupportRequest,
    Suspicion,
    VariantDescription,
    decode_answer,
    decode_request,
    encode,
    new_id,
)
from attnbench.plugins.loading import PluginSource

SOURCE = PluginSource("mine", "file", "/mine.py", "/mine.py")
WORKLOAD = Workload(heads=2, seq_q=8, head_dim=4, mask="causal", scale=0.5)
REQUESTS = [
    DescribeRequest([SOURCE], {"other": "it exited"}),
    SupportRequest([SupportQuestion("sdpa", SOURCE)], [WORKLOAD], "cuda"),
    PeaksRequest("cuda:0", ["float16"]),
    CheckRequest(SOURCE, "sdpa", "cpu", "quick", 3, ["needle"], "/mine.py", ["needle-0"]),
    ExplainRequest("needle"),
    ObserveRequest("attnbench_record_stored", {"variant": "sdpa"}, [SOURCE]),
    LoadRequest(SOURCE, "sdpa", "cpu"),
    OpenRequest(WORKLOAD, MeasureConfig(budget_s=1.0, precision=0.1)),
    BlockRequest(2e7),
    CloseRequest(),
    ProfileRequest(),
]
ANSWERS = [
    PhaseNotice("prepare"),
    AboutNotice("mine"),
    PluginNotice(
        SOURCE,
        None,
        None,
        "abc",
        "/mine.py",
        [VariantDescription("sdpa", "BHSD", "fused", True, ("cpu",), 1, ("torch",), False, ("nan-safe",), "One call.")],
        [SuiteDescription("tiny", "A suite.", "mine", 1.0, False, [GridDescription("grid", "mine", [WORKLOAD])])],
        ["record_stored"],
    ),
    SupportNotice("sdpa", [None, "needs CUDA"]),
    CheckStartNotice("needle-0", "needle", "b1", "Read the row.", "attnbench check sdpa"),
    CheckResultNotice("needle-0", {"status": "passed"}),
    DoneReply(),
    FailedReply("incorrect", "conform", "worst row 3", {"worst_ratio": 2.0}),
    PeaksReply({"float16": {"copy_bytes_per_s": 1e12}}, {"torch": "2.9"}),
    ExplainReply("A needle."),
    ObserveReply(["mine: attnbench_record_stored raised ValueError"]),
    OpenReply(1e6, 1e4, {"worst_ratio": 0.5}, ["warm_up_cap"]),
    Block([1.5, 2.5], 4, 20.0, 1.0, 1.1, {"throttle": []}, (Suspicion("side_stream", "a call took 5 us"),)),
    CloseReply(1, 2, 3, 4),
    ProfileReply(("kernel",), "flash", None, True),
]


def forged(body, identity="x"):
    """Return an encoded message with an arbitrary body."""
    return json.dumps({"id": identity, "body": body}).encode() + b"\n"


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_requests_keep_their_values(request_):
    """Decoding an encoded request returns the same request and id."""
    line = encode("some id", request_)
    assert line.count(b"\n") == 1
    assert decode_request(line) == ("some id", request_)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_answers_keep_their_values(answer):
    """Decoding an encoded notice or reply returns the same value."""
    assert decode_answer(encode("x", answer), "x") == answer


def test_every_message_is_tried_here():
    """The lists REQUESTS and ANSWERS contain an example of every type of request, notice and reply."""
    assert {type(request) for request in REQUESTS} == set(messages.WorkerRequest.__args__)
    assert {type(answer) for answer in ANSWERS} == {*messages.Notice.__args__, *messages.Reply.__args__}


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON at all\n",
        b"[]\n",
        b'{"body":{"type":"DoneReply"}}\n',
        b'{"id":3,"body":{"type":"DoneReply"}}\n',
        b'{"id":"x","body":NaN}\n',
        b'{"id":"\xff","body":{"type":"DoneReply"}}\n',
        b'{"id":"x","body":' + b"[" * 100_000 + b"\n",
        forged({"type": "DoneReply"}, ""),
        forged({"type": "DoneReply"}, "y"),
        forged({"type": "DoneReply"}, "\u00e9"),
    ],
    ids=lambda line: line[:30].decode(errors="replace"),
)
def test_a_line_without_the_id_of_the_request_is_refused_as_forged(line):
    """A line that is not a message, or that lacks the id of the request, is reported as forged."""
    with pytest.raises(MessageError, match="something other than the harness wrote to the results pipe"):
        decode_answer(line, "x")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"type": "Surprise"}, "Invalid value 'Surprise'"),
        ({"type": "BlockRequest", "duration_ns": 1.0}, "Invalid value 'BlockRequest'"),
        ({}, "missing required field `type`"),
        ([], "Expected `object`, got `array`"),
        ({"type": "DoneReply", "extra": 1}, "unknown field `extra`"),
        ({"type": "FailedReply", "status": "ok", "phase": "x", "reason": "x"}, "Invalid enum value 'ok'"),
        ({"type": "OpenReply", "first_call_ns": None, "call_ns": 1.0, "error": {}}, "Expected `float`, got `null`"),
        ({"type": "Block", "samples_ns": [], "calls_per_sample": 1, "wall_ns": 1.0}, "of length >= 1"),
        ({"type": "Block", "samples_ns": [0.0], "calls_per_sample": 1, "wall_ns": 1.0}, "> 0.0"),
        ({"type": "Block", "samples_ns": [None], "calls_per_sample": 1, "wall_ns": 1.0}, "got `null`"),
        ({"type": "Block", "samples_ns": [1.0], "calls_per_sample": 0, "wall_ns": 1.0}, ">= 1"),
        ({"type": "Block", "samples_ns": [1.0], "calls_per_sample": 1, "wall_ns": -1.0}, "> 0.0"),
    ],
)
def test_an_authentic_line_with_wrong_fields_is_refused(body, problem):
    """A body with an unknown type, or with missing, unknown or invalid fields, is refused with the reason."""
    with pytest.raises(MessageError, match="the worker's answer does not fit: ValidationError") as refused:
        decode_answer(forged(body), "x")
    assert problem in str(refused.value)


def test_an_impossible_workload_is_refused():
    """An invalid workload in a plugin's suite is refused, because workloads in messages are checked like any others."""
    body = json.loads(encode("x", ANSWERS[2]))["body"]
    body["suites"][0]["grids"][0]["workloads"][0]["heads"] = -1
    with pytest.raises(MessageError, match="the worker's answer does not fit: WorkloadError: heads"):
        decode_answer(forged(body), "x")


def test_a_deeply_nested_body_is_refused():
    """A body that is nested too deeply for the decoder is refused."""
    body = b'{"type":"ObserveReply","problems":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(MessageError):
        decode_answer(b'{"id":"x","body":' + body + b"}\n", "x")


def test_numbers_that_json_does_not_have_become_null():
    """NaN and infinities are sent as null, both as fields of a message and inside nested objects."""
    sent = Block([1.0], 1, 2.0, float("nan"), float("inf"), {"power_w": float("nan")})
    assert decode_answer(encode("x", sent), "x") == Block([1.0], 1, 2.0, None, None, {"power_w": None})


def test_numpy_numbers_and_unusual_strings_can_be_sent():
    """Subclasses of float and str are sent as plain values, and a lone surrogate becomes a question mark."""

    class Text(str):
        __slots__ = ()

    assert decode_answer(encode("x", OpenReply(np.float64(2.0), 1.0, {})), "x").first_call_ns == 2.0
    assert decode_answer(encode("x", PhaseNotice(Text("load"))), "x") == PhaseNotice("load")
    failed = FailedReply("error", "import", "no file 'a\udcff'", {"max_abs": float("nan")})
    assert decode_answer(encode("x", failed), "x") == FailedReply("error", "import", "no file 'a?'", {"max_abs": None})
    with pytest.raises(TypeError, match="object has no JSON form"):
        encode("x", ObserveReply([object()]))


def test_a_block_whose_times_contradict_the_supervisors_clock_is_refused():
    """A block is refused if its wall time is above the supervisor's measurement or below the sum of its call times."""
    block = Block([10.0] * 10, calls_per_sample=2, wall_ns=250.0)
    assert block.contradiction(300.0) is None
    assert "patched clock" in block.contradiction(200.0)
    assert "do not fit" in Block([10.0] * 10, calls_per_sample=4, wall_ns=250.0).contradiction(300.0)


def test_ids_are_new_for_each_request():
    """Each id has 32 characters and differs from all others."""
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert {len(identity) for identity in ids} == {32}


def test_messages_need_no_torch():
    """Importing the messages module does not import torch, so the supervisor can use the module."""
    text = "import sys, attnbench.messages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
