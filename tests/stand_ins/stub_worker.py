"""A stand-in worker, which replies immediately, does not import torch, and misbehaves on request.

The environment variable `STUB` is a JSON object that maps each variant to an object with the variant's behaviour. A
variant's object has these keys:

- an operation (`load`, `open`, `block`, `close`, `profile` or `check`): what to do in this operation
- a length: an object with the same keys, for workloads of this length only
- `limit`: the largest length that fits in memory
- `unsupported`: the reason why the variant does not support a workload

The value for an operation is one of:

- `exit`, `segfault`: exit with code 3, or crash with SIGSEGV
- `raw`, `flood`: write invalid or very long data to the reply pipe
- `hang:PHASE`: enter a phase and hang
- `phase:PHASE`: enter a phase and go on
- `until:FILE`: wait until a file exists
- an object: send this object as the reply
- `{"once": FILE, "do": ...}`: if the file does not exist yet, create it and follow the value of `do`

`STUB_LOG` is the path of a file to which a line is added for each opened cell and each block.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

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
    FailedReply,
    LoadRequest,
    OpenReply,
    OpenRequest,
    PeaksReply,
    PeaksRequest,
    PhaseNotice,
    PluginNotice,
    ProfileReply,
    ProfileRequest,
    SupportNotice,
    SupportRequest,
    VariantDescription,
    decode_request,
    encode,
)

REQUESTS, REPLIES = int(sys.argv[1]), int(sys.argv[2])
WALL_NS = 1e5
VARIANTS = ("alpha", "beta", "gamma")


def behaviour(variant, workload):
    """Return a variant's behaviour from `STUB`, including the behaviour for the workload's length."""
    wanted = json.loads(os.environ.get("STUB", "{}")).get(variant, {})
    return {**wanted, **wanted.get(str(workload and workload.seq_k), {})}


def describe(request):
    """For each source in the request, send a description of a plugin with three variants."""
    for source in request.sources:
        send(AboutNotice(source.name))
        variants = [
            VariantDescription(
                name,
                layout="BHSD",
                tier="fused",
                exact=True,
                default_on=("cpu", "cuda"),
                ranks=1,
                packages=tuple(json.loads(os.environ.get("STUB_PACKAGES", "{}")).get(name, ())),
                baseline=name in os.environ.get("STUB_BASELINES", "").split(),
                traits=(),
                summary="",
            )
            for name in VARIANTS
        ]
        send(PluginNotice(source, sha256=os.environ.get("STUB_SHA", "0"), variants=variants))
    return DoneReply()


def support(request):
    """Report that every variant supports every workload, unless its behaviour has a reason why not."""
    for question in request.questions:
        send(AboutNotice(question.variant))
        reasons = [behaviour(question.variant, workload).get("unsupported") for workload in request.workloads]
        send(SupportNotice(question.variant, reasons))
    return DoneReply()


def samples(variant, workload):
    """Return samples that depend only on the variant and the workload."""
    seed = hashlib.sha256(f"{variant}{sorted(workload.to_json().items())}".encode()).digest()
    return [1e4 + byte for byte in seed[:3]]


def peaks(request):
    """Return high peak rates."""
    rates = {"copy_bytes_per_s": 1e10, "matmul_flops_per_s": 1e12}
    return PeaksReply(dict.fromkeys(request.dtypes, rates), {})


def check(request):
    """Report that the variant has every requested trait except nan-safe."""
    for name in request.only:
        wanted = behaviour(request.variant, None).get("check")
        if wanted is not None:
            STATE["variant"] = request.variant
            misbehave(wanted)
        send(CheckStartNotice(name, name, "", "", ""))
        send(CheckResultNotice(name, {"check": name, "status": "hint" if name == "nan-safe" else "passed"}))
    return DoneReply()


def load(request):
    """Store the name of the variant to which the next requests refer."""
    STATE["variant"] = request.variant
    return requested("load") or DoneReply()


def open_(request):
    """Store the workload and reply that its cell is open."""
    STATE["workload"] = request.workload
    note("open")
    send(PhaseNotice("conform"))
    return requested("open") or OpenReply(1e6, 1e4, {})


def block(_):
    """Wait for WALL_NS nanoseconds and return a block of samples."""
    note("block")
    send(PhaseNotice("measure"))
    time.sleep(WALL_NS / 1e9)
    return requested("block") or Block(samples(STATE["variant"], STATE["workload"]), 1, WALL_NS)


def close(_):
    """Reply that the cell is closed."""
    return requested("close") or CloseReply(peak_bytes=1)


def profile(_):
    """Reply with the kernels of the cell."""
    return requested("profile") or ProfileReply(kernels=("stub",), detached=True)


def note(operation):
    """Append a line with the operation, the variant, the length and this process's id to the log."""
    if "STUB_LOG" in os.environ:
        with Path(os.environ["STUB_LOG"]).open("a") as log:
            log.write(f"{operation} {STATE['variant']} {STATE['workload'].seq_k} {os.getpid()}\n")


def requested(operation):
    """Misbehave in an operation if `STUB` requests it.

    Returns the reply to send, or None for the usual reply.
    """
    behaves = behaviour(STATE["variant"], STATE.get("workload"))
    if operation == "open" and STATE["workload"].seq_k > behaves.get("limit", 1 << 60):
        return FailedReply("out_of_memory", "prepare", "OutOfMemoryError")
    wanted = behaves.get(operation)
    if isinstance(wanted, dict) and "once" in wanted:
        first = not Path(wanted["once"]).exists()
        Path(wanted["once"]).touch()
        wanted = wanted["do"] if first else None
    return wanted and misbehave(wanted)


def misbehave(wanted):
    """Misbehave as `wanted` describes.

    Returns the reply to send, or None for the usual reply.
    """
    if isinstance(wanted, dict):
        return wanted
    if wanted == "raw":
        os.write(REPLIES, b"no JSON at all\n")
    if wanted == "flood":
        os.write(REPLIES, b"x" * (1 << 20))
    if wanted == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if wanted == "exit":
        os._exit(3)
    word, _, rest = wanted.partition(":")
    if word == "until":
        while not Path(rest).exists():
            time.sleep(0.01)
        return None
    send(PhaseNotice(rest))
    if word == "phase":
        return None
    if "HANGING" in os.environ:  # see hanging.py
        Path(os.environ["HANGING"], str(os.getpid())).touch()
    time.sleep(600)
    return None


def send(message):
    """Send a message with the id of the current request. A message that is a dict is not validated."""
    if isinstance(message, dict):
        data = (json.dumps({"id": STATE["id"], "body": message}) + "\n").encode()
    else:
        data = encode(STATE["id"], message)
    while data:
        data = data[os.write(REPLIES, data) :]


OPERATIONS = {
    DescribeRequest: describe, SupportRequest: support, PeaksRequest: peaks, CheckRequest: check,
    LoadRequest: load, OpenRequest: open_, BlockRequest: block, CloseRequest: close,
    ProfileRequest: profile,
}  # fmt: skip
STATE = {}

if __name__ == "__main__":
    for line in os.fdopen(REQUESTS, "rb"):
        STATE["id"], received = decode_request(line)
        send(OPERATIONS[type(received)](received))
