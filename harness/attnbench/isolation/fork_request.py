"""The message by which the supervisor asks a fork server for a worker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ForkRequest:
    """What a new worker runs, in which environment and under which memory limit.

    - `entry`: a module's name or a script's path, run as `__main__` with two descriptors as its arguments: the one it
      reads requests from and the one it writes replies to
    - `imports`: modules that the fork server imports before it forks, so that later workers find them imported
    - `environment`: variables of this worker, beside those of the fork server
    - `data_limit`: RLIMIT_DATA in bytes, or None for no limit
    """

    entry: str
    imports: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    data_limit: int | None = None

    def to_json(self) -> bytes:
        """Encode the request."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def from_json(data: bytes) -> ForkRequest:
        """Decode a request."""
        return ForkRequest(**json.loads(data))
