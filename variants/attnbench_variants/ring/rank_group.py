"""The ranks of a ring, seen from rank 0: started once a process, then asked call by call."""

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

from attnbench_variants.ring.rank import DTYPES, Call, Member, join
from attnbench_variants.ring.zigzag import gathered, scattered


@dataclass(eq=False)
class Ticket:
    """Stands for one forward call, whose parts all ranks keep as long as somebody holds it."""

    number: int


class Crew:
    """`ranks` processes, this one included."""

    def __init__(self, ranks: int, kind: str) -> None:
        self.ranks, self.kind = ranks, kind
        self._folder = tempfile.TemporaryDirectory()
        file = str(Path(self._folder.name) / "meeting-point")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "attnbench_variants.ring.rank"]
        self._others = [
            subprocess.Popen(
                [*command, str(rank), str(ranks), file, _device(kind, rank)], stdin=subprocess.PIPE, env=environment
            )
            for rank in range(1, ranks)
        ]
        join(0, ranks, file, _device(kind, 0))
        self._own = Member(0, ranks, _device(kind, 0))
        self._numbers = itertools.count()
        self._held: set[int] = set()  # numbers of the tickets that somebody holds

    def ticket(self) -> Ticket:
        """Give a new forward call its ticket."""
        ticket = Ticket(next(self._numbers))
        self._held.add(ticket.number)
        weakref.finalize(ticket, self._held.discard, ticket.number)
        return ticket

    @property
    def oldest(self) -> int:
        """The number of the oldest ticket that somebody holds."""
        return min(self._held, default=0)

    def forward(self, call: Call, *tensors: torch.Tensor) -> torch.Tensor:
        """Compute the whole output (B, Hq, S, Dv) of whole query, key and value."""
        return self._collect(self._own.forward(call, *self._hand_out(call, tensors)))

    def backward(self, call: Call, grad_output: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the gradients of query, key and value of the forward call whose ticket `call` names."""
        answers = self._own.backward(call, *self._hand_out(call, (grad_output,)))
        return tuple(self._collect(answer) for answer in answers)

    def stop(self) -> None:
        """End the other ranks and leave the group."""
        for process in self._others:
            process.kill()
            process.wait()
        if dist.is_initialized():
            dist.destroy_process_group()
        self._folder.cleanup()

    def _hand_out(self, call: Call, tensors: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        dist.broadcast(call.announced(), 0)
        own = []
        for tensor in tensors:
            parts = scattered(tensor, self.ranks)
            own.append(torch.empty_like(parts[0]))
            dist.scatter(own[-1], parts, 0)
        return own

    def _collect(self, part: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(part) for _ in range(self.ranks)]
        dist.gather(part.contiguous(), parts, 0)
        return gathered(parts)


_CREWS: dict[tuple[int, str], Crew] = {}


def crew_of(ranks: int, kind: str) -> Crew:
    """Give this process's crew; another size ends the one before, because a process is in one group at a time."""
    if (ranks, kind) not in _CREWS:
        dismiss()
        _CREWS[ranks, kind] = Crew(ranks, kind)
    return _CREWS[ranks, kind]


@atexit.register
def dismiss() -> None:
    """End the crew, if there is one."""
    while _CREWS:
        _CREWS.popitem()[1].stop()


def dtype_index(dtype: torch.dtype) -> int:
    """Give the number by which ranks speak of a dtype."""
    return DTYPES.index(dtype)


def _device(kind: str, rank: int) -> str:
    return f"cuda:{rank}" if kind == "cuda" else "cpu"
