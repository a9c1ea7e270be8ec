"""The private line between a worker and its supervisor: JSON lines over two pipes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from typing import Any


class Channel:
    """Reads requests and writes replies; each reply repeats its request's `id`, which a forger does not know."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests = os.fdopen(requests, "rb")
        self._replies = replies
        self._id = ""
        os.set_inheritable(requests, False)
        os.set_inheritable(replies, False)
        self._write = os.write  # taken before any plugin can patch it

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield requests until the supervisor closes the line."""
        for line in self._requests:
            request = json.loads(line)
            self._id = request.pop("id")
            yield request

    def send(self, **fields: Any) -> None:
        """Send one message of the current request, NaN and infinities as null."""
        data = (json.dumps({"id": self._id, **_finite(fields)}, allow_nan=False) + "\n").encode()
        while data:
            data = data[self._write(self._replies, data) :]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
