"""Tells plugins that observe a run of its events, in a process of their own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from attnbench.isolation.process import WorkerLostError, WorkerProcess
from attnbench.messages import ObserveReply, ObserveRequest, failure_reason
from attnbench.plan.catalog import NO_GPU, Catalog, PluginEntry

IMPORT_TIMEOUT_S = 60.0  # the first event waits for the plugins to be imported
LAST_TIMEOUT_S = 120.0  # nothing is measured any more, and a tracker may have much to send
EVENT_TIMEOUT_S = 10.0  # an observer that takes longer is not told of anything more


class Observers:
    """The observing plugins of a run. A broken or slow one is told of in `problems` and costs nothing else.

    Events are told between measurements and waited for, so that no observer works while something is timed.
    """

    def __init__(self, catalog: Catalog, log: Path) -> None:
        self.problems: list[str] = []
        self._plugins: Sequence[PluginEntry] = [plugin for plugin in catalog.plugins if plugin.observes]
        self._log = log
        self._worker: WorkerProcess | None = None
        self._introduced = False
        self._lock = threading.Lock()  # devices are worked on side by side

    def __enter__(self) -> Self:
        """Start their process, if there is any observer."""
        if self._plugins:
            self._worker = WorkerProcess(NO_GPU, needs_torch=False)
            self._worker.log_to(self._log)
        return self

    def __exit__(self, *_: object) -> None:
        """End the observers' process."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def notify(self, event: str, argument: dict[str, Any]) -> None:
        """Hand an event (`run_started`, `cell_started` ...) to every plugin that observes it."""
        if not any(event in plugin.observes for plugin in self._plugins):
            return
        with self._lock:
            if self._worker is None:
                return
            sources, limit = None, LAST_TIMEOUT_S if event == "run_ended" else EVENT_TIMEOUT_S
            if not self._introduced:
                self._introduced = True
                sources, limit = [plugin.source.to_json() for plugin in self._plugins], IMPORT_TIMEOUT_S
            try:
                reply = self._worker.request(ObserveRequest(f"attnbench_{event}", argument, sources), lambda _: limit)
            except WorkerLostError as lost:
                names = ", ".join(plugin.source.name for plugin in self._plugins)
                self.problems.append(f"{names}: observing {event} ended: {lost.reason}; no event is told any more")
                self._plugins, self._worker = [], None
                return
            self.problems += reply.problems if isinstance(reply, ObserveReply) else [failure_reason(reply)]
