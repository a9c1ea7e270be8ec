"""One rank of the ring, which keeps its queries and passes keys and values on to the next rank.

The algorithm follows Liu et al., 2023, arXiv:2310.01889. Rank 0 is the process that the variant runs in. It broadcasts
each call, scatters the inputs and gathers the results. Every other rank is started by the command
`python -m attnbench_variants.ring.rank RANK RANKS FILE DEVICE`, and serves calls until its standard input is closed.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, fields
from datetime import timedelta

import torch
import torch.distributed as dist

from attnbench.device_names import device_type
from attnbench_variants.ring.zigzag import chunks_of

FORWARD, BACKWARD = 0, 1
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_IDLE = timedelta(days=1)  # a rank waits up to this long for the next call; no run takes longer


@dataclass(frozen=True)
class Call:
    """A call that rank 0 broadcasts: the operation, the shapes, whether the mask is causal, and the scale.

    `ticket` is the ticket number of a forward call: of this call itself or, if this is a backward call, of the forward
    call that it belongs to. The ranks release the tensors of forward calls whose ticket numbers are below `oldest`.
    """

    operation: int
    ticket: int
    oldest: int
    batch: int
    heads: int
    kv_heads: int
    length: int  # the number of queries on each rank, which equals the number of keys
    head_dim: int
    head_dim_v: int
    dtype: int
    causal: bool
    scale: float

    def to_tensor(self) -> torch.Tensor:
        """Return the call as a float64 tensor, which can be broadcast."""
        return torch.tensor([float(value) for value in vars(self).values()], dtype=torch.float64)

    @classmethod
    def from_tensor(cls, numbers: torch.Tensor) -> Call:
        """Convert a tensor from `to_tensor` back to a call."""
        *whole, causal, scale = numbers.tolist()
        return cls(*(int(value) for value in whole), causal=bool(causal), scale=scale)

    def shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """Return the shape of a rank's part of each tensor: query, key, value and output."""
        return {
            "query": (self.batch, self.heads, self.length, self.head_dim),
            "key": (self.batch, self.kv_heads, self.length, self.head_dim),
            "value": (self.batch, self.kv_heads, self.length, self.head_dim_v),
            "output": (self.batch, self.heads, self.length, self.head_dim_v),
        }


class Rank:
    """A rank, which computes its part of each call and keeps the tensors of forward calls for the backward pass."""

    def __init__(self, rank: int, ranks: int, device: str) -> None:
        self.rank, self.ranks, self.device = rank, ranks, torch.device(device)
        # The tensors that the backward pass needs, keyed by the forward call's ticket number.
        self._kept: dict[int, tuple[torch.Tensor, ...]] = {}

    def forward(self, call: Call, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend to each rank's keys in turn while receiving the keys for the next step. Return this rank's output."""
        queries = query.float().chunk(2, 2)
        outputs = [torch.zeros((*part.shape[:3], call.head_dim_v), device=self.device) for part in queries]
        peaks = [torch.full((*part.shape[:3], 1), -torch.inf, device=self.device) for part in queries]
        totals = [torch.zeros_like(peak) for peak in peaks]
        held = [key, value]
        for step in range(self.ranks):
            arriving = self._rotate(held) if step + 1 < self.ranks else None
            for mine, theirs, diagonal in self._pairs((self.rank - step) % self.ranks, call.causal):
                keys, values = (tensor.chunk(2, 2)[theirs].float() for tensor in held)
                scores = _scores(queries[mine], keys, call.scale, diagonal=diagonal)
                peak = torch.maximum(peaks[mine], scores.amax(-1, keepdim=True))
                shrink, weights = (peaks[mine] - peak).exp(), (scores - peak).exp()
                outputs[mine].mul_(shrink).add_(_per_group(weights, values))
                totals[mine].mul_(shrink).add_(weights.sum(-1, keepdim=True))
                peaks[mine] = peak
            held = self._arrived(arriving) if arriving else held
        total = torch.cat(totals, 2)
        output = torch.cat(outputs, 2).div_(total)
        self._kept = {ticket: kept for ticket, kept in self._kept.items() if ticket >= call.oldest}
        self._kept[call.ticket] = (query, key, value, output, torch.cat(peaks, 2), total)
        return output.to(query.dtype)

    def backward(self, call: Call, grad_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Send keys, values and their partial gradients around the ring, and return this rank's gradients."""
        query, key, value, output, peak, total = self._kept[call.ticket]
        grads = grad_output.float()
        row_dots = ((grads * output).sum(-1)).chunk(2, 2)
        queries, grad_parts = query.float().chunk(2, 2), grads.chunk(2, 2)
        peaks, totals = peak.chunk(2, 2), total.chunk(2, 2)
        grad_queries = [torch.zeros_like(part) for part in queries]
        held = [key, value]
        travelling = [torch.zeros_like(key, dtype=torch.float32), torch.zeros_like(value, dtype=torch.float32)]
        for step in range(self.ranks):
            for mine, theirs, diagonal in self._pairs((self.rank - step) % self.ranks, call.causal):
                keys, values = (tensor.chunk(2, 2)[theirs].float() for tensor in held)
                scores = _scores(queries[mine], keys, call.scale, diagonal=diagonal)
                weights = (scores - peaks[mine]).exp().div_(totals[mine])
                grad_weights = _per_group(grad_parts[mine], values.mT)
                grad_scores = weights * (grad_weights - row_dots[mine][..., None]) * call.scale
                grad_queries[mine] += _per_group(grad_scores, keys)
                travelling[0].chunk(2, 2)[theirs].add_(_over_group(grad_scores, queries[mine], call.kv_heads))
                travelling[1].chunk(2, 2)[theirs].add_(_over_group(weights, grad_parts[mine], call.kv_heads))
            held, travelling = self._split(self._arrived(self._rotate([*held, *travelling])))
        return torch.cat(grad_queries, 2).to(query.dtype), travelling[0].to(key.dtype), travelling[1].to(value.dtype)

    def _pairs(self, source: int, causal: bool) -> list[tuple[int, int, bool]]:
        """Return the pairs of chunks to compute: a chunk of this rank's queries and a chunk of rank `source`'s keys.

        Each item is (index of the query chunk, index of the key chunk, whether the pair needs a causal mask).
        """
        mine, theirs = chunks_of(self.rank, self.ranks), chunks_of(source, self.ranks)
        return [
            (i, j, causal and mine[i] == theirs[j])
            for i in (0, 1)
            for j in (0, 1)
            if not causal or theirs[j] <= mine[i]
        ]

    def _rotate(self, tensors: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[dist.Work]]:
        """Start sending tensors to the next rank and receiving tensors from the previous rank.

        Returns the tensors that are being received, and the operations to wait for.
        """
        arriving = [torch.empty_like(tensor) for tensor in tensors]
        after, before = (self.rank + 1) % self.ranks, (self.rank - 1) % self.ranks
        operations = [dist.P2POp(dist.isend, tensor.contiguous(), after) for tensor in tensors]
        operations += [dist.P2POp(dist.irecv, tensor, before) for tensor in arriving]
        return arriving, dist.batch_isend_irecv(operations)

    @staticmethod
    def _arrived(transfer: tuple[list[torch.Tensor], list[dist.Work]]) -> list[torch.Tensor]:
        for work in transfer[1]:
            work.wait()
        return transfer[0]

    @staticmethod
    def _split(tensors: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return tensors[:2], tensors[2:]


def join(rank: int, ranks: int, file: str, device: str) -> None:
    """Join the process group through a shared file; gloo transfers CPU tensors, and NCCL transfers GPU tensors."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "cpu:gloo,cuda:nccl" if device_type(device) == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{file}", rank=rank, world_size=ranks, timeout=MAX_IDLE)


def serve(rank: Rank) -> None:
    """Run the calls that rank 0 broadcasts, one after the other."""
    while True:
        numbers = torch.empty(len(fields(Call)), dtype=torch.float64)
        dist.broadcast(numbers, 0)
        call = Call.from_tensor(numbers)
        shapes, dtype = call.shapes(), DTYPES[call.dtype]
        names = ("query", "key", "value") if call.operation == FORWARD else ("output",)
        parts = [torch.empty(shapes[name], dtype=dtype, device=rank.device) for name in names]
        for part in parts:
            dist.scatter(part, None, 0)
        answers = (rank.forward(call, *parts),) if call.operation == FORWARD else rank.backward(call, *parts)
        for answer in answers:
            dist.gather(answer.contiguous(), None, 0)


def _scores(query: torch.Tensor, key: torch.Tensor, scale: float, *, diagonal: bool) -> torch.Tensor:
    """Return the scores of R query rows and Rk keys, (B, Hq, R, Rk), with a causal mask if `diagonal` is True.

    The caller keeps each row's maximum separate from its sum of weights. The log-sum-exp, which combines the two,
    would be rounded to the precision of the maximum: for scores of 10,000, the error of a weight would be 0.1%.
    """
    scores = _per_group(query, key.mT) * scale
    if diagonal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores


def _per_group(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply `left`, (B, Hq, R, X), by `right`, (B, Hkv, X, Y), and return the product, (B, Hq, R, Y).

    All query heads of a group are multiplied by the same key head.
    """
    batch, heads, rows, width = left.shape
    kv_heads = right.shape[1]
    product = left.reshape(batch, kv_heads, heads // kv_heads * rows, width) @ right
    return product.view(batch, heads, rows, right.shape[-1])


def _over_group(left: torch.Tensor, right: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Multiply the transpose of `left`, (B, Hq, R, X), by `right`, (B, Hq, R, Y).

    The product, (B, Hkv, X, Y), is summed over all query heads of a group.
    """
    batch, heads, rows, _ = left.shape
    folded = (t.reshape(batch, kv_heads, heads // kv_heads * rows, t.shape[-1]) for t in (left, right))
    first, second = folded
    return first.mT @ second


def _exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve as one rank until the parent process exits."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    rank, ranks, file, device = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    join(rank, ranks, file, device)
    serve(Rank(rank, ranks, device))


if __name__ == "__main__":
    main()
