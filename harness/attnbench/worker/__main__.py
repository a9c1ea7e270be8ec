"""Run a worker: `python -m attnbench.worker REQUESTS REPLIES`, with the file descriptors of its two pipes."""

from __future__ import annotations

import sys

from attnbench.worker.serve import serve

if __name__ == "__main__":
    serve(requests=int(sys.argv[1]), replies=int(sys.argv[2]))
