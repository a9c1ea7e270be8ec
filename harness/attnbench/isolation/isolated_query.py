"""Asking a worker about many things, any of which may end it: whoever does is blamed, and the rest asked again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnbench.errors import PluginError
from attnbench.isolation.process import WorkerLostError, WorkerProcess


def interview(
    operation: str, environment: Mapping[str, str], deadline_s: float, *, needs_torch: bool = True, **fields: Any
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the worker's answers, and for each thing that ended it the reason why.

    The worker names a thing (`about`) before it touches it and sends an `answer` after; names that ended an earlier
    worker come in its field `skip`, as a mapping to the reason. Each answer has `deadline_s` seconds.
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
