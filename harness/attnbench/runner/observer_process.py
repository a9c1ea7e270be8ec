"""Forward run events to observer plugins, which run in a separate process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.messages import ObserveReply, ObserveRequest, failure_reason
from attnbench.plan.catalog import NO_GPU, Catalog, PluginEntry

IMPORT_TIMEOUT_S = 60.0  # for the first event, before which the plugins are imported
LAST_TIMEOUT_S = 120.0  # for the end of the run: nothing is measured any more, and a tracker may have much to send
EVENT_TIMEOUT_S = 10.0  # for every other event; observers that take longer get no more events


class Observers:
    """The observer plugins of a run and the process that they run in.

    Errors and timeouts of observers are added to `problems` and don't affect the run. `notify` is called between
    measurements and waits for the observers, so that none of them runs while something is timed.
    """

    def __init__(self, catalog: Catalog, log: Path) -> None:
        self.problems: list[str] = []
        self._plugins: Sequence[PluginEntry] = [plugin for plugin in catalog.plugins if plugin.observes]
        self._log = log
        self._worker: WorkerProcess | None = None
        self._plugins_sent = False
        self._lock = threading.Lock()  # each device's thread reports events

    def __enter__(self) -> Self:
        """Start the process, unless no plugin observes the run."""
        if self._plugins:
            self._worker = WorkerProcess(NO_GPU, needs_torch=False)
            self._worker.log_to(self._log)
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def notify(self, event: str, argument: dict[str, Any]) -> None:
        """Call the hook of an event, e.g. `run_started`, in every plugin that implements it, and wait for it."""
        if not any(event in plugin.observes for plugin in self._plugins):
            return
        with self._lock:
            if self._worker is None:
                return
            sources, limit = None, LAST_TIMEOUT_S if event == "run_ended" else EVENT_TIMEOUT_S
            if not self._plugins_sent:
                self._plugins_sent = True
                sources, limit = [plugin.source for plugin in self._plugins], IMPORT_TIMEOUT_S
            try:
                reply = self._worker.request(ObserveRequest(f"attnbench_{event}", argument, sources), lambda _: limit)
            except WorkerLostError as lost:
                names = ", ".join(plugin.source.name for plugin in self._plugins)
                self.problems.append(f"{names}: observing {event} ended: {lost.reason}; observers get no more events")
                self._plugins, self._worker = [], None
                return
            self.problems += reply.problems if isinstance(reply, ObserveReply) else [failure_reason(reply)]
