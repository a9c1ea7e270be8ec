"""The worker's end of the two pipes that connect it with its supervisor."""

from __future__ import annotations

import os
from collections.abc import Iterator

from attnbench.messages import Notice, Reply, WorkerRequest, decode_request, encode


class Channel:
    """Reads requests from one pipe and writes notices and replies to the other, with the id of the current request."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests = os.fdopen(requests, "rb")
        self._replies = replies
        self._id = ""
        os.set_inheritable(requests, False)
        os.set_inheritable(replies, False)
        self._write = os.write  # kept from before the plugin is imported, which could patch it

    def requests(self) -> Iterator[WorkerRequest]:
        """Yield requests until the supervisor closes its end."""
        for line in self._requests:
            self._id, request = decode_request(line)
            yield request

    def send(self, message: Notice | Reply) -> None:
        """Send one notice or reply of the current request."""
        data = encode(self._id, message)
        while data:
            data = data[self._write(self._replies, data) :]
