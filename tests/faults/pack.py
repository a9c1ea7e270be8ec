"""A plugin whose variants crash, hang or misbehave in other ways. The name of each variant describes its fault.

Apart from its fault, each variant computes the right answer. The `harmless` and `wrong` variants combine several
faults; the workload's sequence length determines which one occurs. A variant that hangs first creates a file in the
folder HANGING, whose name is its process id.
"""

import ctypes
import functools
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, hookimpl

FIRST_LENGTH = 16


class Fault(Variant):
    """A variant that is correct, except that call number `when` returns the result of a misbehaving function.

    `misbehave` contains one such function for each sequence length, starting with FIRST_LENGTH. The function is called
    with the correct output.
    """

    def __init__(self, name, *misbehave, when=3):
        self.name, self.misbehave, self.when = name, misbehave, when

    def unsupported_reason(self, workload, device):
        """Return None for sequence lengths that have a fault, and a reason for all other lengths."""
        return None if workload.seq_q - FIRST_LENGTH < len(self.misbehave) else "has no fault for this length"

    def prepare(self, workload, inputs):
        """Return a callable that counts its calls and misbehaves in call number `when`."""
        calls = iter(range(1, 1 << 60))
        misbehave = self.misbehave[workload.seq_q - FIRST_LENGTH]

        def call():
            output = scaled_dot_product_attention(inputs.query, inputs.key, inputs.value)
            return misbehave(output) if next(calls) == self.when else output

        return call


class RaisesInPrepare(Fault):
    """A variant that raises in `prepare`."""

    def prepare(self, workload, inputs):
        """Raise RuntimeError."""
        raise RuntimeError("no kernel image")


class OddError(Exception):
    """An exception that can't be converted to a string."""

    def __str__(self):
        raise ValueError


def raise_(error):
    """Raise an exception. Lambdas call this function because they can't contain a `raise` statement."""
    raise error


def raise_in_backward(output):
    """Register a hook on the output that raises in the backward pass, and return the output."""
    output.register_hook(lambda _: raise_(RuntimeError("in backward")))
    return output


def recurse_to_death(output):
    """Recurse through C code, without Python's recursion limit, until the stack overflows."""
    sys.setrecursionlimit(1 << 30)
    return functools.reduce(lambda *_: recurse_to_death(output), (1, 2))


def hang_from_here():
    """Tell the test that the rest of this process hangs, so that the test need not wait for the real deadline."""
    Path(os.environ["HANGING"], str(os.getpid())).touch()


def hold_the_interpreter(output):
    """Sleep in C without releasing the GIL."""
    hang_from_here()
    ctypes.PyDLL(None).sleep(600)


def spin(output):
    """Loop forever in Python."""
    hang_from_here()
    while True:
        pass


def allocate(output):
    """Allocate memory until an allocation fails."""
    taken = []
    while True:
        taken.append(torch.ones(1 << 24))


def share_until_killed(output):
    """Allocate shared memory until the process is killed; RLIMIT_DATA does not limit shared memory."""
    taken, chunk = [], bytes(1 << 26)
    while True:
        taken.append(mmap.mmap(-1, len(chunk)))
        taken[-1].write(chunk)


def leave_children(output):
    """Leave two child processes running, one of them in a new session."""
    for apart in (False, True):
        subprocess.Popen(["/bin/sleep", "612"], start_new_session=apart)
    return output


def close_descriptors(output):
    """Close file descriptors 0 to 511, then sleep."""
    os.closerange(0, 512)
    time.sleep(600)


def flood(output):
    """Write 1 GiB of text to stdout."""
    chunk = b"flood " * (1 << 18)
    for _ in range((1 << 30) // len(chunk) + 1):
        os.write(1, chunk)
    return output


FORGED = b'{"id":"","body":{"type":"Block","samples_ns":[1.0],"calls_per_sample":1,"wall_ns":1.0}}\n'


def forge(output):
    """Write a forged reply to every open file descriptor from 3 to 511; one of them is the results pipe."""
    for descriptor in range(3, 512):
        try:
            os.write(descriptor, FORGED)
        except OSError:
            continue
    return output


def handle_signals(output):
    """Handle the usual termination signals without exiting, and sleep forever."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, lambda *_: None)
    hang_from_here()
    while True:
        time.sleep(600)


def change_folder(output):
    """Change the working directory, which must not affect the run."""
    os.chdir("/")
    return output


@hookimpl
def attnbench_variants():
    """Return the variants with one fault each, and the two variants that combine several faults."""
    return [
        RaisesInPrepare("raises-in-prepare", None),
        Fault("segfault", lambda _: ctypes.string_at(0)),
        Fault("abort", lambda _: os.abort()),
        Fault("exits", lambda _: os._exit(0)),
        Fault("loops", spin),
        Fault("loops-in-c", hold_the_interpreter),
        Fault("raises-in-third-call", lambda _: raise_(RuntimeError("third call"))),
        Fault("raises-in-backward", raise_in_backward),
        Fault("raises-odd", lambda _: raise_(OddError())),
        Fault("recurses-to-death", recurse_to_death),
        Fault("allocates", allocate),
        Fault("allocates-until-killed", share_until_killed),
        Fault("closes-descriptors", close_descriptors),
        Fault("forges", forge),
        Fault("ignores-sigterm", handle_signals),
        Fault("harmless", flood, change_folder, leave_children),
        Fault(
            "wrong",
            lambda _: None,
            lambda output: output[..., :-1],
            lambda output: output.double(),
            lambda output: output * float("nan"),
            lambda output: output.to("meta"),
            when=2,
        ),
    ]
