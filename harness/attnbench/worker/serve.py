"""The worker's loop: one request at a time, and no request may end the loop by raising."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from attnbench.errors import PluginError, UsageError, describe
from attnbench.plugins.loading import Plugin, PluginSource, load_all, load_plugin, observers, variant_of
from attnbench.worker.channel import Channel
from attnbench.workloads.workload import Workload

IMPORT_LATER = "import what ends the process inside prepare, where it costs one cell alone"
OUT_OF_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


def serve(requests: int, replies: int) -> None:
    """Answer requests until the supervisor closes the line."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    channel = Channel(requests, replies)
    worker = Worker(channel)
    for request in channel.requests():
        operation = request.pop("op")
        try:
            reply = worker.operations[operation](**request)
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its cell's result
            traceback.print_exc()
            reply = worker.failure(error)
        channel.send(reply=reply)
        sys.stdout.flush()
    os._exit(0)  # a plugin's exit handlers and threads have no say


class Worker:
    """One process's state: the plugin it serves and the cell that is open."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._phase = "import"
        self._observers: list[Plugin] = []
        self.operations: dict[str, Callable[..., dict[str, Any]]] = {
            "describe": self.describe,
            "survey": self.survey,
            "limits": self.limits,
            "check": self.check,
            "explain_check": self.explain_check,
            "observe": self.observe,
            "load": self.load,
        }

    def enter(self, phase: str) -> None:
        """Tell the supervisor which phase begins: it sets the deadline and names the phase of a crash."""
        self._phase = phase
        self._channel.send(phase=phase)

    def failure(self, error: BaseException) -> dict[str, Any]:
        """Turn an exception into a cell's outcome."""
        text = describe(error)
        memory = isinstance(error, MemoryError) or "OutOfMemoryError" in text
        memory = memory or any(sign in text.lower() for sign in OUT_OF_MEMORY_TEXTS)
        reason = getattr(error, "reason_for_user", None) or text
        return {"status": "out_of_memory" if memory else "error", "phase": self._phase, "reason": reason}

    def describe(self, sources: list[dict[str, str]], skip: dict[str, str]) -> dict[str, Any]:
        """Load plugins and tell of each before and after, so that a crash has a culprit."""
        blamed = {name: PluginError(f"import ended the process: {skip[name]}", IMPORT_LATER) for name in skip}
        for source, outcome in load_all([PluginSource(**fields) for fields in sources], blamed):
            if outcome is None:
                self._channel.send(about=source.name)
            elif isinstance(outcome, PluginError):
                failure = {"reason": str(outcome), "remedy": outcome.remedy}
                self._channel.send(answer={"source": source.to_json(), **failure})
            else:
                self._channel.send(answer=_described(outcome))
        return {"status": "ready"}

    def survey(
        self, questions: list[dict[str, Any]], workloads: list[dict[str, Any]], device: str, skip: dict[str, str]
    ) -> dict[str, Any]:
        """Ask each variant which workloads it can't do; one that raises is left for its cells to tell."""
        problems = [Workload.from_json(fields) for fields in workloads]
        for question in questions:
            name = question["variant"]
            if name in skip:
                continue
            self._channel.send(about=name)
            try:
                variant = variant_of(PluginSource(**question["source"]), name)
                reasons = [variant.unsupported_reason(problem.attention, device) for problem in problems]
            except (Exception, SystemExit):  # noqa: BLE001 - its cells will meet it again, and tell
                traceback.print_exc()
                continue
            if all(reason is None or isinstance(reason, str) for reason in reasons):
                self._channel.send(answer={"variant": name, "reasons": reasons})
        return {"status": "ready"}

    def limits(self, device: str, dtypes: list[str]) -> dict[str, Any]:
        """Measure what the device does at most, and say of the environment what only torch knows."""
        from attnbench.measure.peaks import measure_peaks
        from attnbench.worker.cell import facts

        self.enter("limits")
        return {
            "status": "ready",
            "limits": {dtype: measure_peaks(device, dtype).to_json() for dtype in dtypes},
            "facts": facts(device),
        }

    def check(
        self, source: dict[str, str], variant: str, device: str, options: dict[str, Any], skip: dict[str, str]
    ) -> dict[str, Any]:
        """Run the conformance suite on a variant, telling of each test before and after; those in `skip` are done."""
        from attnbench.conformance.subject import Subject
        from attnbench.conformance.suite import cases, repro, run_case

        subject = Subject(variant_of(PluginSource(**source), variant), device, options["seed"])
        for case in cases(subject.variant, device, options["level"], options["only"]):
            if case.id in skip:
                continue
            again = repro(subject, case, options["level"], options["plugin"])
            self._channel.send(
                about=case.id,
                check=case.check.name,
                workload_id=case.workload.id,
                remedy=case.check.remedy,
                repro=again,
            )
            result = run_case(subject, case, level=options["level"], plugin=options["plugin"])
            self._channel.send(answer={"id": case.id, **result.to_json()})
        return {"status": "ready"}

    def explain_check(self, name: str) -> dict[str, Any]:
        """Give everything that a check has to say of itself."""
        from attnbench.conformance.suite import find_check

        try:
            return {"status": "ready", "text": find_check(name).explain()}
        except UsageError as error:
            return {"status": "unknown", "reason": str(error)}

    def observe(
        self, event: str, argument: dict[str, Any], sources: list[dict[str, str]] | None = None
    ) -> dict[str, Any]:
        """Hand an event of the run to every plugin that observes it; the first request names the plugins."""
        if sources is not None:
            self._observers = [load_plugin(PluginSource(**fields)) for fields in sources]
        problems = []
        for plugin in self._observers:
            for function in observers(plugin, event):
                try:
                    function(*[argument][: function.__code__.co_argcount])
                except Exception as error:  # noqa: BLE001 - an observer's fault is told, and costs nothing else
                    problems.append(f"{plugin.source.name}: {event} raised {describe(error)}")
        return {"problems": problems}

    def load(self, source: dict[str, str], variant: str, device: str) -> dict[str, Any]:
        """Import torch, then the plugin of one variant, and make ready for its cells."""
        self.enter("import")
        from attnbench.worker.cell import Session

        session = Session(self.enter, source=PluginSource(**source), variant=variant, device=device)
        self.operations |= {"open": session.open, "block": session.block, "close": session.close}
        return {"status": "ready"}


def _described(plugin: Plugin) -> dict[str, Any]:
    return {
        "source": plugin.source.to_json(),
        "reason": None,
        "sha256": plugin.sha256,
        "file": getattr(plugin.module, "__file__", None),
        "variants": [
            {
                "name": variant.name,
                "layout": variant.layout,
                "tier": variant.tier,
                "exact": bool(variant.exact),
                "default_on": list(variant.default_on),
                "ranks": variant.ranks,
                "packages": list(variant.packages),
                "baseline": variant.baseline,
                "traits": sorted(variant.traits),
                "summary": (variant.__doc__ or "").strip().partition("\n")[0],
            }
            for variant in plugin.variants
        ],
        "suites": [
            {
                "name": suite.name,
                "description": suite.description,
                "source": suite.source,
                "budget_s": suite.budget_s,
                "frontier": suite.frontier,
                "grids": [
                    {
                        "title": grid.title,
                        "source": grid.source,
                        "workloads": [workload.to_json() for workload in grid.workloads],
                    }
                    for grid in suite.grids
                ],
            }
            for suite in plugin.suites
        ],
        "observes": _observed_events(plugin),
    }


def _observed_events(plugin: Plugin) -> list[str]:
    events = ("run_started", "cell_started", "record_stored", "run_ended")
    return [event for event in events if observers(plugin, f"attnbench_{event}")]
