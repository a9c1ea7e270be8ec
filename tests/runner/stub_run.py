"""The command line with workers that answer at once: `python stub_run.py run ...` is `attnbench run ...`."""

import sys
from pathlib import Path

from attnbench.cli import main
from attnbench.runner import process

WORKER = (sys.executable, "-S", "-E", str(Path(__file__).parent / "stub_worker.py"))

if __name__ == "__main__":
    process.COMMAND = WORKER
    main()
