"""Check that every dishonest variant is detected on CUDA and the honest one is timed; otherwise exit with status 1."""

import sys
from pathlib import Path

from attnbench import Workload
from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.measure_config import MeasureConfig
from attnbench.messages import BlockRequest, CloseRequest, FailedReply, LoadRequest, OpenRequest
from attnbench.plugins.loading import PluginSource

PACK = Path(__file__).parent.parent / "mutants" / "dishonest"
WORKLOAD = Workload(heads=2, seq_q=64, head_dim=16, mask="causal", direction="forward_backward")
BLOCKS, BLOCK_NS, DEADLINE_S = 8, 10e6, 60.0


def measure(path):
    """Measure a plugin file's variant in a worker process, and return its status and reason."""
    worker = WorkerProcess({})

    def ask(request):
        return worker.request(request, lambda phase: DEADLINE_S)

    try:
        source = PluginSource(path.stem, "file", str(path))
        ask(LoadRequest(source, "dishonest", "cuda:0"))
        reply = ask(OpenRequest(WORKLOAD, MeasureConfig(warm_up_max_s=0.3)))
        for _ in range(BLOCKS):
            if not isinstance(reply, FailedReply):
                reply = ask(BlockRequest(BLOCK_NS))
        if not isinstance(reply, FailedReply):
            reply = ask(CloseRequest())
    except WorkerLostError as lost:
        return lost.status, lost.reason
    finally:
        worker.stop()
    return (reply.status, reply.reason) if isinstance(reply, FailedReply) else ("ok", None)


def main():
    """Measure all plugins in the pack. Return 1 if `honest` isn't timed or another plugin is, and 0 otherwise."""
    missed = []
    for path in sorted(PACK.glob("*.py")):
        status, reason = measure(path)
        caught = (status == "ok") == (path.stem == "honest")
        missed += [] if caught else [path.stem]
        print(f"{'ok' if caught else 'MISSED':<8}{path.stem}: {status} {reason or ''}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
