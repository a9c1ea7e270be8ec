"""Run the `attnbench` command with stand-in workers, e.g. `python stub_run.py run ...`.

`STUB_INTERRUPTS` is the path of a file to which a line is added after each signal that the run has counted.
"""

import os
from pathlib import Path

from attnbench.cli import main
from attnbench.interrupts import Interrupts
from attnbench.isolation import worker_process
from attnbench.runner import scheduler

WORKER = str(Path(__file__).parent / "stub_worker.py")
PRELOADED = ("attnbench.messages",)


class NotedInterrupts(Interrupts):
    """A counter of signals that notes each of them in a file."""

    def _count(self, *received):
        super()._count(*received)
        with Path(os.environ["STUB_INTERRUPTS"]).open("a") as file:
            file.write("counted\n")


if __name__ == "__main__":
    if "STUB_INTERRUPTS" in os.environ:
        scheduler.Interrupts = NotedInterrupts
    worker_process.ENTRY, worker_process.PRELOADED = WORKER, PRELOADED
    main()
