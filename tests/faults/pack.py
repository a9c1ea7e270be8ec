"""A plugin with one variant a fault; each does what its name says, on top of a right answer."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl


class Fault(Variant):
    """Right but for `misbehave`, which is called in the third call, or earlier where a subclass says so."""

    when = 3

    def __init__(self, name, misbehave, when=3):
        self.name, self.misbehave, self.when = name, misbehave, when

    def prepare(self, workload, inputs):
        """Count the calls, so that the fault comes in mid-run."""
        calls = iter(range(1, 1 << 60))

        def call():
            if next(calls) == self.when:
                changed = self.misbehave(inputs)
                if changed is not None:
                    return None if changed is NOTHING else changed
            return scaled_dot_product_attention(inputs.query, inputs.key, inputs.value)

        return call


class RaisesInPrepare(Variant):
    """Raises before there is anything to call."""

    name = "raises-in-prepare"

    def prepare(self, workload, inputs):
        """Raise."""
        raise RuntimeError("no kernel image")


class OddError(Exception):
    """An exception whose text can't be had."""

    def __str__(self):
        raise ValueError


NOTHING = object()


def raise_(error):
    """Raise as an expression."""
    raise error


def recurse(inputs):
    """Recurse to death."""
    recurse(inputs)


def hold_the_interpreter(inputs):
    """Loop in C without letting the interpreter go."""
    ctypes.PyDLL(None).sleep(600)


def spin(inputs):
    """Loop in Python."""
    while True:
        pass


def allocate(inputs):
    """Ask for more memory than there is."""
    return torch.ones(1 << 50)


def fork_children(inputs):
    """Leave children behind that sleep on."""
    for _ in range(3):
        subprocess.Popen(["/bin/sleep", "612"])
    os.abort()


def close_descriptors(inputs):
    """Close every descriptor."""
    os.closerange(0, 512)
    time.sleep(600)


def flood(inputs):
    """Print 64 MiB."""
    chunk = b"flood " * (1 << 17)
    for _ in range(88):
        os.write(1, chunk)


def forge(inputs):
    """Write a record of one's own into every pipe that is open."""
    for descriptor in range(3, 512):
        try:
            os.write(descriptor, b'{"reply": {"status": "ok", "samples_ns": [1.0]}}\n')
        except OSError:
            continue


def ignore_sigterm(inputs):
    """Ignore polite requests, and hang."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def change_folder(inputs):
    """Change the working folder, harmlessly."""
    os.chdir("/")


def leave_a_thread(inputs):
    """Start a thread that works beside the calls."""

    def work():
        while True:
            pass

    threading.Thread(target=work, daemon=True).start()


def ones(*shape, dtype=torch.float32):
    """Make a wrong answer."""
    return torch.ones(shape, dtype=dtype)


@hookimpl
def attnbench_variants():
    """Offer every fault."""
    return [
        RaisesInPrepare(),
        Fault("segfault", lambda inputs: ctypes.string_at(0)),
        Fault("abort", lambda inputs: os.abort()),
        Fault("exits", lambda inputs: os._exit(0)),
        Fault("exits-politely", lambda inputs: sys.exit(0)),
        Fault("loops", spin),
        Fault("loops-in-c", hold_the_interpreter),
        Fault("raises-in-third-call", lambda inputs: raise_(RuntimeError("third call"))),
        Fault("raises-odd", lambda inputs: raise_(OddError())),
        Fault("raises-base", lambda inputs: raise_(KeyboardInterrupt())),
        Fault("recurses", recurse),
        Fault("allocates", allocate),
        Fault("forks", fork_children),
        Fault("closes-descriptors", close_descriptors),
        Fault("floods", flood),
        Fault("forges", forge),
        Fault("ignores-sigterm", ignore_sigterm),
        Fault("changes-folder", change_folder),
        Fault("returns-none", lambda inputs: NOTHING, when=2),
        Fault("wrong-shape", lambda inputs: ones(1, 2, 3, 4), when=2),
        Fault("wrong-dtype", lambda inputs: ones(*inputs.query.shape, dtype=torch.float64), when=2),
        Fault("nan", lambda inputs: torch.full_like(inputs.query, float("nan")), when=2),
        Fault("leaves-a-thread", leave_a_thread),
    ]
