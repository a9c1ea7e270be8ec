"""Run one step: commands that share a time limit, with their output in one log."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from steps import ROOT, Step

# An interrupted `attnbench run` stops after the current blocks. A second interrupt stops its workers.
INTERRUPTS = (6.0, 3.0)  # seconds before the limit at which the commands are interrupted
KILLED_S = 2.0  # how long to wait for a killed process, which may be stuck in a driver
PROMPT = "$ "  # precedes each command in a log
TRACEBACK = "Traceback (most recent call last):"
MAX_LINE = 160  # characters of a log's last line to show


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    `status` is `ok`, `exit N`, `out of time`, `not found` or `not run`: that of the first command that failed.
    `last_line` is the last line that this command printed.
    """

    name: str
    status: str
    seconds: float
    limit_s: float
    last_line: str = ""

    @property
    def failed(self) -> bool:
        """Whether a command of the step failed or did not end in time."""
        return self.status != "ok"

    @property
    def line(self) -> str:
        """The outcome as one line of text, with the last line of the log if the step failed."""
        said = f"  {self.last_line[:MAX_LINE]}" if self.failed else ""
        return f"{self.status:<12}{self.name:<14}{self.seconds:6.1f} of {self.limit_s:.0f} s{said}"


def run_step(step: Step, work: Path, environment: Mapping[str, str], deadline: float) -> Outcome:
    """Run the commands of a step one after another, and return how the step ended.

    The output goes to logs/STEP.log in `work`, and the outcome is appended to steps.jsonl there. If a command fails,
    the next ones still run, until the step's limit or the deadline (a time of the monotonic clock) is reached.
    """
    begun = time.monotonic()
    limit = max(0.0, min(step.limit_s, deadline - begun))
    path = work / "logs" / f"{step.name}.log"
    failures = []
    with path.open("wb") as log:
        for command in step.commands:
            log.write(f"{PROMPT}{shlex.join(command)}\n".encode())
            log.flush()
            before = len(printed(path))
            status = _run(command, log, environment, begun + limit) if time.monotonic() < begun + limit else "not run"
            failures += [] if status == "ok" else [(status, "".join(printed(path)[before:][-1:]))]
    status, last_line = failures[0] if failures else ("ok", "")
    outcome = Outcome(step.name, status, time.monotonic() - begun, limit, last_line)
    with (work / "steps.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(outcome)) + "\n")
    return outcome


def _run(command: tuple[str, ...], log: IO[bytes], environment: Mapping[str, str], end: float) -> str:
    """Run a command until it ends, or at most until the time `end`, and return its status."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True
        )
    except OSError as error:
        log.write(f"{command[0]}: {error.strerror}\n".encode())
        return "not found"
    try:
        code = _wait(process, end)
    finally:
        # This ends what a command left behind, and the command itself if it is still running.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILLED_S)
    if code is None:
        return "out of time"
    return "ok" if code == 0 else f"exit {code}"


def _wait(process: subprocess.Popen[bytes], end: float) -> int | None:
    """Wait for a process, interrupt it shortly before `end`, and return its exit status, or None if it was too slow."""
    interrupted = False
    for before in (*INTERRUPTS, 0.0):
        try:
            code = process.wait(max(0.0, end - before - time.monotonic()))
        except subprocess.TimeoutExpired:
            interrupted = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
        else:
            return None if interrupted else code
    return None


def printed(path: Path) -> list[str]:
    """Return the lines of a log that commands printed, without blank lines and without an interrupt's traceback."""
    lines = [line.rstrip() for line in path.read_text(encoding="utf-8", errors="replace").split("\n")]
    lines = [line for line in lines if line and not line.startswith(PROMPT)]
    if lines[-1:] == ["KeyboardInterrupt"] and TRACEBACK in lines:
        del lines[lines.index(TRACEBACK) :]
    return lines
