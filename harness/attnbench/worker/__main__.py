"""Run a worker: `python -m attnbench.worker REQUESTS REPLIES`.

The arguments are the file descriptors of the pipes for requests and replies.
"""

from __future__ import annotations

import sys

from attnbench.worker.serve import serve

if __name__ == "__main__":
    serve(requests=int(sys.argv[1]), replies=int(sys.argv[2]))
