"""The processes of a ring. Rank 0 starts the others once, and then sends them every call."""

from __future__ import annotations

import atexit
import itertools
import os
import subprocess
import sys
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from attnbench_variants.ring.rank import DTYPES, Call, Rank, join
from attnbench_variants.ring.zigzag import gathered, scattered


@dataclass(eq=False)
class Ticket:
    """The identifier of a forward call. All ranks keep the call's tensors as long as its ticket is referenced."""

    number: int


class RankGroup:
    """The `ranks` processes of a ring, including this one."""

    def __init__(self, ranks: int, kind: str) -> None:
        self.ranks, self.kind = ranks, kind
        self._folder = tempfile.TemporaryDirectory()
        file = str(Path(self._folder.name) / "rendezvous")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", Rank.__module__]
        self._others = [
            subprocess.Popen(
                [*command, str(rank), str(ranks), file, _device(kind, rank)], stdin=subprocess.PIPE, env=environment
            )
            for rank in range(1, ranks)
        ]
        join(0, ranks, file, _device(kind, 0))
        self._own = Rank(0, ranks, _device(kind, 0))
        self._numbers = itertools.count()
        self._held: set[int] = set()  # the numbers of all tickets that are still referenced

    def ticket(self) -> Ticket:
        """Return a ticket for a new forward call."""
        ticket = Ticket(next(self._numbers))
        self._held.add(ticket.number)
        weakref.finalize(ticket, self._held.discard, ticket.number)
        return ticket

    @property
    def oldest(self) -> int:
        """The number of the oldest ticket that is still referenced, or 0 if there is none."""
        return min(self._held, default=0)

    def forward(self, call: Call, *tensors: torch.Tensor) -> torch.Tensor:
        """Return the whole output, (B, Hq, S, Dv), for the whole query, key and value."""
        return self._gather(self._own.forward(call, *self._scatter(call, tensors)))

    def backward(self, call: Call, grad_output: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the gradients of query, key and value for the forward call with the ticket `call.ticket`."""
        answers = self._own.backward(call, *self._scatter(call, (grad_output,)))
        return tuple(self._gather(answer) for answer in answers)

    def stop(self) -> None:
        """Kill the other ranks' processes and leave the process group."""
        for process in self._others:
            process.kill()
            process.wait()
        if dist.is_initialized():
            dist.destroy_process_group()
        self._folder.cleanup()

    def _scatter(self, call: Call, tensors: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        dist.broadcast(call.to_tensor(), 0)
        own = []
        for tensor in tensors:
            parts = scattered(tensor, self.ranks)
            own.append(torch.empty_like(parts[0]))
            dist.scatter(own[-1], parts, 0)
        return own

    def _gather(self, part: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(part) for _ in range(self.ranks)]
        dist.gather(part.contiguous(), parts, 0)
        return gathered(parts)


_RANK_GROUPS: dict[tuple[int, str], RankGroup] = {}


def rank_group_of(ranks: int, kind: str) -> RankGroup:
    """Return this process's group of `ranks` ranks on devices of `kind`, starting the group if necessary.

    A running group with different arguments is stopped, because a process can have only one group.
    """
    if (ranks, kind) not in _RANK_GROUPS:
        stop_rank_group()
        _RANK_GROUPS[ranks, kind] = RankGroup(ranks, kind)
    return _RANK_GROUPS[ranks, kind]


@atexit.register
def stop_rank_group() -> None:
    """Stop this process's group, if there is one."""
    while _RANK_GROUPS:
        _RANK_GROUPS.popitem()[1].stop()


def dtype_index(dtype: torch.dtype) -> int:
    """Return the number that represents a dtype in a `Call`."""
    return DTYPES.index(dtype)


def _device(kind: str, rank: int) -> str:
    return f"cuda:{rank}" if kind == "cuda" else "cpu"
