"""What a worker runs, with the descriptors of its requests and replies as arguments."""

from __future__ import annotations

import sys

from attnbench.worker.serve import serve

if __name__ == "__main__":
    serve(requests=int(sys.argv[1]), replies=int(sys.argv[2]))
