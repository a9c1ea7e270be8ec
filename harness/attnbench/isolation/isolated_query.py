"""Ask a worker about many things, any of which may crash it, and still get all the other answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnbench.errors import PluginError
from attnbench.isolation.process import WorkerLostError, WorkerProcess


def isolated_query(
    operation: str, environment: Mapping[str, str], deadline_s: float, *, needs_torch: bool = True, **fields: Any
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the worker's answers, and the reason for each name that ended a worker.

    The worker sends the name of a thing (`about`) before it touches it and an `answer` afterwards, each within
    `deadline_s` seconds. If the worker is lost, a new one is asked again and skips the last name: `skip` maps such
    names to the reasons. Raises PluginError if a worker fails without having named anything.
    """
    skip: dict[str, str] = {}
    while True:
        messages: list[dict[str, Any]] = []
        worker = WorkerProcess(environment, needs_torch=needs_torch)
        try:
            reply = worker.request(operation, lambda _: deadline_s, messages.append, skip=skip, **fields)
        except WorkerLostError as lost:
            touched = [str(message["about"]) for message in messages if "about" in message]
            if not touched or touched[-1] in skip:
                raise PluginError(f"plugins can't be asked: {lost.reason}") from lost
            skip[touched[-1]] = f"not within {deadline_s:g} s" if lost.status == "timeout" else lost.reason
            continue
        finally:
            worker.stop()
        if reply.get("status") == "error":
            raise PluginError(f"plugins can't be asked: {reply['reason']}")
        return [message["answer"] for message in messages if "answer" in message], skip
