"""Run the `attnbench` command with stand-in workers, e.g. `python stub_run.py run ...`."""

from pathlib import Path

from attnbench.cli import main
from attnbench.isolation import worker_process

WORKER = str(Path(__file__).parent / "stub_worker.py")
PRELOADED = ("attnbench.messages",)

if __name__ == "__main__":
    worker_process.ENTRY, worker_process.PRELOADED = WORKER, PRELOADED
    main()
