"""Ask a worker about many plugins or variants, any of which may crash it, and still get all the other answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from attnbench.errors import PluginError
from attnbench.isolation.process import WorkerLostError, WorkerProcess
from attnbench.messages import AboutNotice, DescribeRequest, FailedReply, Notice, SupportRequest

Answer = TypeVar("Answer", bound=Notice)


def isolated_query(
    request: DescribeRequest | SupportRequest,
    answer: type[Answer],
    environment: Mapping[str, str],
    deadline_s: float,
    *,
    needs_torch: bool = True,
) -> tuple[list[Answer], dict[str, str]]:
    """Return the worker's notices of type `answer`, and for each name that ended a worker the reason.

    The worker sends an AboutNotice before it runs code of a plugin or variant. When it is lost, a new worker gets the
    request with the last name in `skip`. Each notice must come within `deadline_s` seconds of the one before. Raises
    PluginError if the request can't be carried out.
    """
    skip: dict[str, str] = {}
    while True:
        notices: list[Notice] = []
        worker = WorkerProcess(environment, needs_torch=needs_torch)
        try:
            reply = worker.request(msgspec.structs.replace(request, skip=skip), lambda _: deadline_s, notices.append)
        except WorkerLostError as lost:
            names = [notice.name for notice in notices if isinstance(notice, AboutNotice)]
            if not names or names[-1] in skip:
                raise PluginError(f"plugins can't be asked: {lost.reason}") from lost
            skip[names[-1]] = f"not within {deadline_s:g} s" if lost.status == "timeout" else lost.reason
            continue
        finally:
            worker.stop()
        if isinstance(reply, FailedReply):
            raise PluginError(f"plugins can't be asked: {reply.reason}")
        return [notice for notice in notices if isinstance(notice, answer)], skip
