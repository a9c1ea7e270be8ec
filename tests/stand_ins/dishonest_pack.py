"""Measure the dishonest variants in tests/mutants/dishonest in real workers, as a run does."""

import re
from pathlib import Path

from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.measure_config import MeasureConfig
from attnbench.messages import BlockRequest, CloseRequest, FailedReply, LoadRequest, OpenRequest
from attnbench.plugins.loading import PluginSource

PACK = Path(__file__).parent.parent / "mutants" / "dishonest"
PROTOCOL = MeasureConfig(warm_up_max_s=0.3)
BLOCKS, BLOCK_NS, DEADLINE_S = 10, 10e6, 120.0

# Tricks whose names match this pattern change their process permanently, so each of them runs in a separate worker.
NEEDS_SEPARATE_WORKER = re.compile("patche|sets|thread|forges|sleeps|operator|mode")


class PackRunner:
    """A runner that measures dishonest variants one after another in the same worker."""

    def __init__(self, environment, deadline_s=DEADLINE_S):
        self._environment = environment
        self._deadline_s = deadline_s
        self._worker = None

    def outcome(self, trick, workload, device="cpu"):
        """Measure a trick's variant in a real worker, as a run does, and return the resulting status and reason.

        The status is `suspect` if the variant got times that are flagged as suspect.
        """
        source = PluginSource(trick, "file", str(PACK / f"{trick}.py"))
        try:
            self._ask(LoadRequest(source, "dishonest", device))
            reply = self._ask(OpenRequest(workload, PROTOCOL))
            for _ in range(BLOCKS):
                if not isinstance(reply, FailedReply):
                    reply = self._ask(BlockRequest(BLOCK_NS))
            if not isinstance(reply, FailedReply):
                reply = self._ask(CloseRequest())
        except WorkerLostError as lost:
            self._worker = None
            return lost.status, lost.reason
        if isinstance(reply, FailedReply):
            return reply.status, reply.reason
        return ("suspect", reply.suspicions[0].text) if reply.suspicions else ("ok", None)

    def _ask(self, request):
        self._worker = self._worker or WorkerProcess(self._environment)
        return self._worker.request(request, lambda phase: self._deadline_s)

    def stop(self):
        """Stop the worker."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
