"""A worker that answers at once: it speaks the line's protocol, knows no torch, and can be told to misbehave.

`STUB` in the environment holds JSON: by variant, by operation, what to do: "exit", "segfault", "raw", "flood",
"hang:PHASE", "until:FILE", a reply, or {"once": FILE, "do": any of these}; under a length, the same for that length
alone; and `limit`, the largest length that fits. `STUB_LOG` names a file that is told of every cell that is opened
and of every block.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

REQUESTS, REPLIES = int(sys.argv[1]), int(sys.argv[2])
BLOCK = {"wall_ns": 1e5, "calls_per_sample": 1, "suspects": [], "telemetry": {}}
VARIANTS = ("alpha", "beta", "gamma")


def behaviour(variant, workload):
    """Give what the environment asks of a variant, at a workload's length if it says so."""
    told = json.loads(os.environ.get("STUB", "{}")).get(variant, {})
    return {**told, **told.get(str(workload.get("seq_k")), {})}


def describe(request):
    """Offer three variants of one plugin."""
    for source in request["sources"]:
        send(about=source["name"])
        variants = [
            {
                "name": name,
                "layout": "BHSD",
                "tier": "fused",
                "exact": True,
                "traits": [],
                "summary": "",
                "default_on": ["cpu", "cuda"],
                "packages": json.loads(os.environ.get("STUB_PACKAGES", "{}")).get(name, []),
                "baseline": name in os.environ.get("STUB_BASELINES", "").split(),
            }
            for name in VARIANTS
        ]
        answer = {"source": source, "reason": None, "sha256": os.environ.get("STUB_SHA", "0"), "file": None}
        send(answer={**answer, "variants": variants, "suites": [], "observes": []})
    return {"status": "ready"}


def survey(request):
    """Support everything."""
    for question in request["questions"]:
        send(about=question["variant"])
        send(answer={"variant": question["variant"], "reasons": [None] * len(request["workloads"])})
    return {"status": "ready"}


def samples(variant, workload):
    """Give samples that only variant and workload decide."""
    seed = hashlib.sha256(f"{variant}{sorted(workload.items())}".encode()).digest()
    return [1e4 + byte for byte in seed[:3]]


def limits(request):
    """Say that the device can do much."""
    rate = {"copy_bytes_per_s": 1e10, "matmul_flops_per_s": 1e12}
    return {"status": "ready", "limits": dict.fromkeys(request["dtypes"], rate), "facts": {}}


def check(request):
    """Find every trait but one."""
    for name in request["options"]["only"]:
        told = behaviour(request["variant"], {}).get("check")
        if told is not None:
            STATE["variant"] = request["variant"]
            misbehave(told)
        send(about=name)
        send(answer={"check": name, "status": "hint" if name == "nan-safe" else "passed"})
    return {"status": "ready"}


def load(request):
    """Serve one variant."""
    STATE["variant"] = request["variant"]
    return asked("load") or {"status": "ready"}


def open_(request):
    """Open a cell."""
    STATE["workload"] = request["workload"]
    note("open")
    ready = {"status": "ready", "first_call_ns": 1e6, "error": {}, "call_ns": 1e4, "flags": []}
    return asked("open") or ready


def block(request):
    """Take as long as a block and hand samples back."""
    note("block")
    time.sleep(BLOCK["wall_ns"] / 1e9)
    return asked("block") or {"status": "ready", "samples_ns": samples(STATE["variant"], STATE["workload"]), **BLOCK}


def close(request):
    """Close a cell."""
    return asked("close") or {"status": "ok", "memory": {"peak_bytes": 1}, "kernels": {"names": ["stub"]}}


def note(operation):
    """Tell the log who does what, at which length."""
    if "STUB_LOG" in os.environ:
        with Path(os.environ["STUB_LOG"]).open("a") as log:
            log.write(f"{operation} {STATE['variant']} {STATE['workload']['seq_k']} {os.getpid()}\n")


def asked(operation):
    """Do what the environment asks for, if anything."""
    told = behaviour(STATE["variant"], STATE.get("workload", {}))
    if operation == "open" and STATE["workload"]["seq_k"] > told.get("limit", 1 << 60):
        return {"status": "out_of_memory", "phase": "prepare", "reason": "OutOfMemoryError"}
    wanted = told.get(operation)
    if isinstance(wanted, dict) and "once" in wanted:
        first = not Path(wanted["once"]).exists()
        Path(wanted["once"]).touch()
        wanted = wanted["do"] if first else None
    return wanted and misbehave(wanted)


def misbehave(wanted):
    """Do what the environment asks for."""
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
    send(phase=rest)
    time.sleep(600)
    return None


def send(**fields):
    """Send a message of the present request."""
    data = (json.dumps({"id": IDENTITY, **fields}) + "\n").encode()
    while data:
        data = data[os.write(REPLIES, data) :]


OPERATIONS = {
    "describe": describe, "survey": survey, "limits": limits, "check": check,
    "load": load, "open": open_, "block": block, "close": close,
}  # fmt: skip
STATE = {}

if __name__ == "__main__":
    for line in os.fdopen(REQUESTS, "rb"):
        received = json.loads(line)
        IDENTITY = received.pop("id")
        send(reply=OPERATIONS[received.pop("op")](received))
