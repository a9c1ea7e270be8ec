"""Forward run events to observer plugins, which run in a separate process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.messages import ObserveReply, ObserveRequest, failure_reason
from attnbench.plan.catalog import NO_GPU, Catalog, PluginEntry

IMPORT_TIMEOUT_S = 60.0  # for the first event, including the time to import the plugins
LAST_TIMEOUT_S = (
    120.0  # for `run_ended`: all measurements are done, and an experiment tracker may have to upload a lot of data
)
EVENT_TIMEOUT_S = 10.0  # for every other event; observers that take longer receive no further events


class Observers:
    """The observer plugins of a run, and the process in which they run.

    Errors and timeouts of observers are added to `problems` and don't affect the run. `notify` is called between
    measurements and waits until the observers have finished, so that they don't run while a call is being timed.
    """

    def __init__(self, catalog: Catalog, log: Path) -> None:
        self.problems: list[str] = []
        self._plugins: Sequence[PluginEntry] = [plugin for plugin in catalog.plugins if plugin.observes]
        self._log = log
        self._worker: WorkerProcess | None = None
        self._plugins_sent = False
        self._lock = threading.Lock()  # the threads of several devices may report events at the same time

    def __enter__(self) -> Self:
        """Start the process if any plugin observes the run."""
        if self._plugins:
            self._worker = WorkerProcess(NO_GPU, needs_torch=False)
            self._worker.log_to(self._log)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the process if it is running."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def notify(self, event: str, argument: dict[str, Any]) -> None:
        """Call an event's hook in every plugin that implements it, and wait until all calls have returned.

        `event` is the hook's name without its prefix, e.g. `run_started`. `argument` is the hook's argument as JSON
        values.
        """
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
                self.problems.append(
                    f"{names}: the observers' process was lost during {event}: {lost.reason}; observers receive no "
                    "further events"
                )
                self._plugins, self._worker = [], None
                return
            self.problems += reply.problems if isinstance(reply, ObserveReply) else [failure_reason(reply)]
