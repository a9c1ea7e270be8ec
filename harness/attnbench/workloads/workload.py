"""One attention problem: shapes, dtype, mask and direction."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from attnbench.errors import WorkloadError, unknown
from attnbench.workloads import projections
from attnbench.workloads.mask import Mask
from attnbench.workloads.workload_id import fields_of

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
DIRECTIONS = ("forward", "backward", "forward_backward")
LAYOUTS = ("native", "BHSD", "BSHD")
DISTRIBUTIONS = ("normal", "uniform", "integers", "outliers", "zeros")
SPLITS = {"batch": ("batch",), "heads": ("heads", "kv_heads"), "ring": ("seq_q", "seq_k")}  # what each divides
LEFT_OUT = {"kv_heads": (0, "heads"), "seq_k": (-1, "seq_q"), "head_dim_v": (0, "head_dim")}  # default, stands for
LSE_BYTES = 4  # the log-sum-exp of each row is kept in float32, whatever the dtype


@dataclass(frozen=True)
class Workload:
    """One attention problem; frozen, hashable, with a stable `id`.

    Shapes: query (batch, heads, seq_q, head_dim), key (batch, kv_heads, seq_k, head_dim),
    value (batch, kv_heads, seq_k, head_dim_v), output (batch, heads, seq_q, head_dim_v).
    Left out, `kv_heads` is `heads`, `seq_k` is `seq_q`, `head_dim_v` is `head_dim`; `scale` None means
    1/sqrt(head_dim). `softcap` c replaces the scaled scores s by c * tanh(s / c) before bias and mask; `alibi` adds
    `-slope_h * |i + seq_k - seq_q - j|`; `dropout` is the probability with which a weight is dropped.

    What surrounds attention:

    - `embed_dim` above 0 makes it a whole layer: token embeddings (batch, seq_q, embed_dim) are projected to query, key
      and value, attended, and projected back to (batch, seq_q, embed_dim). Where seq_q differs from seq_k, keys and
      values are projected from other tokens (batch, seq_k, embed_dim), as in cross attention. There are no biases.
    - `layout`: `native` hands tensors over as the variant wants them; `BHSD` or `BSHD` gives them in that layout, and
      a variant of the other layout is timed with the conversion there and back.
    - `distribution`: of the values that are timed; answers are judged on `normal` ones whatever it is.
    - `gpus`: how many devices work on it at once, each on its share of what `split` names: the `batch`, the `heads`,
      or, in a `ring`, the sequence. On a CPU the devices are cores.

    Raises WorkloadError for a field that is out of range.
    """

    heads: int
    seq_q: int
    head_dim: int
    batch: int = 1
    kv_heads: int = 0
    seq_k: int = -1
    head_dim_v: int = 0
    dtype: str = "float32"
    mask: Mask = field(default_factory=Mask)
    direction: str = "forward"
    scale: float | None = None
    softcap: float | None = None
    alibi: bool = False
    dropout: float = 0.0
    embed_dim: int = 0
    layout: str = "native"
    distribution: str = "normal"
    gpus: int = 1
    split: str = "batch"

    def __post_init__(self) -> None:
        """Fill in what was left out and check every field."""
        if isinstance(self.mask, str):
            object.__setattr__(self, "mask", Mask.parse(self.mask))
        for name, (left_out, source) in LEFT_OUT.items():
            if getattr(self, name) == left_out:
                object.__setattr__(self, name, getattr(self, source))
        self._check_sizes()
        self._check_choices()
        self._check_numbers()
        self._check_surroundings()

    def _check_sizes(self) -> None:
        for name in ("batch", "heads", "kv_heads", "seq_q", "seq_k", "head_dim", "head_dim_v", "embed_dim", "gpus"):
            value = getattr(self, name)
            least = 0 if name in ("batch", "seq_q", "seq_k", "embed_dim") else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise WorkloadError(f"{name} is {value!r}: expected a whole number of at least {least}")
        if self.heads % self.kv_heads:
            raise WorkloadError(
                f"heads is {self.heads} and kv_heads is {self.kv_heads}: heads must be a multiple of kv_heads"
            )

    def _check_choices(self) -> None:
        for name, known in (
            ("dtype", DTYPE_BYTES),
            ("direction", DIRECTIONS),
            ("layout", LAYOUTS),
            ("distribution", DISTRIBUTIONS),
            ("split", SPLITS),
        ):
            if str(getattr(self, name)) not in known:
                raise WorkloadError(str(unknown(name, str(getattr(self, name)), known)))
        if self.mask.kind == "document" and self.seq_q != self.seq_k:
            raise WorkloadError(f"mask document needs seq_q == seq_k, got {self.seq_q} and {self.seq_k}")

    def _check_numbers(self) -> None:
        if self.scale is not None and not (_is_number(self.scale) and self.scale > 0):
            raise WorkloadError(f"scale is {self.scale!r}: expected a positive number, or none for 1/sqrt(head_dim)")
        if self.softcap is not None and not (_is_number(self.softcap) and self.softcap > 0):
            raise WorkloadError(f"softcap is {self.softcap!r}: expected a positive number, or none")
        if not (_is_number(self.dropout) and 0.0 <= self.dropout < 1.0):
            raise WorkloadError(f"dropout is {self.dropout!r}: expected 0 <= dropout < 1")
        if not isinstance(self.alibi, bool):
            raise WorkloadError(f"alibi is {self.alibi!r}: expected true or false")
        for name in ("scale", "softcap", "dropout"):  # 1 and 1.0 are one workload, so they need one id
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))

    def _check_surroundings(self) -> None:
        if self.gpus == 1:  # nothing is split: one workload, one id
            object.__setattr__(self, "split", "batch")
        for name in SPLITS[self.split]:
            if getattr(self, name) % self.gpus:
                raise WorkloadError(
                    f"gpus is {self.gpus} and {name} is {getattr(self, name)}: split {self.split} needs a multiple"
                )
        if self.embed_dim:
            clashes = (
                ("dropout", self.dropout > 0, "a layer's answer can't be judged under dropout"),
                ("layout", self.layout != "native", "a layer's tokens have no heads to lay out"),
                ("split", self.gpus > 1 and self.split != "batch", "the devices of a layer share the batch alone"),
            )
            for name, clash, why in clashes:
                if clash:
                    raise WorkloadError(f"{name} is {getattr(self, name)!r} and embed_dim {self.embed_dim}: {why}")

    @property
    def id(self) -> str:
        """A stable, readable name: equal ids mean equal workloads, across processes and versions."""
        parts = [f"b{self.batch}", f"h{self.heads}"]
        parts += [f"kv{self.kv_heads}"] if self.kv_heads != self.heads else []
        parts += [f"s{self.seq_q}"] if self.seq_q == self.seq_k else [f"q{self.seq_q}", f"k{self.seq_k}"]
        parts += [f"d{self.head_dim}"]
        parts += [f"v{self.head_dim_v}"] if self.head_dim_v != self.head_dim else []
        parts += [self.dtype, str(self.mask), self.direction]
        parts += [f"scale{self.scale!r}"] if self.scale is not None else []
        parts += [f"softcap{self.softcap!r}"] if self.softcap is not None else []
        parts += ["alibi"] if self.alibi else []
        parts += [f"dropout{self.dropout!r}"] if self.dropout else []
        parts += [f"embed{self.embed_dim}"] if self.embed_dim else []
        parts += [part for part in (self.layout, self.distribution) if part not in ("native", "normal")]
        parts += [f"gpus{self.gpus}", self.split] if self.gpus > 1 else []
        return "-".join(parts)

    @classmethod
    def parse(cls, text: str) -> Workload:
        """Read a workload from its `id`: the inverse of it. Raises WorkloadError, which shows what an id looks like."""
        return cls.from_json(fields_of(text))

    @property
    def effective_scale(self) -> float:
        """The factor that the scores are multiplied by: `scale`, or 1/sqrt(head_dim)."""
        return self.head_dim**-0.5 if self.scale is None else self.scale

    @property
    def attention(self) -> Workload:
        """The attention alone, on one device and in a variant's own layout: what a variant is told of."""
        return dataclasses.replace(self, embed_dim=0, layout="native", distribution="normal", gpus=1, split="batch")

    @property
    def share(self) -> Workload:
        """What one of `gpus` devices does; all of it where one call spans the devices, as a ring's does."""
        divided = (
            {} if self.split == "ring" else {name: getattr(self, name) // self.gpus for name in SPLITS[self.split]}
        )
        return dataclasses.replace(self, gpus=1, split="batch", **divided)

    @property
    def needs_gradient(self) -> bool:
        """Whether the direction has a backward pass."""
        return self.direction != "forward"

    @property
    def key_lengths(self) -> tuple[int, ...]:
        """Keys that count in each sequence of the batch: seeded under `padding`, else seq_k.

        Seeded lengths lie between a quarter of seq_k and seq_k, and the first sequence is full, as a batch that was
        padded to its longest member has it. They depend on batch and seq_k alone.
        """
        if self.mask.kind != "padding" or self.seq_k == 0:
            return (self.seq_k,) * self.batch
        generator = random.Random(f"padding:{self.batch}:{self.seq_k}")  # noqa: S311 - a seeded shape, not a secret
        shortest = max(1, self.seq_k // 4)
        drawn = [generator.randint(shortest, self.seq_k) for _ in range(self.batch)]
        return (self.seq_k, *drawn[1:])

    def document_lengths(self, sequence: int) -> tuple[int, ...]:
        """Lengths of the documents packed into one sequence of the batch; they sum to seq_q.

        Without a `document` mask the sequence is one document. Seeded lengths depend on seq_q and the sequence's index.
        """
        if self.mask.kind != "document" or self.seq_q == 0:
            return (self.seq_q,)
        generator = random.Random(f"document:{self.seq_q}:{sequence}")  # noqa: S311 - a seeded shape, not a secret
        lengths: list[int] = []
        while (left := self.seq_q - sum(lengths)) > 0:
            lengths.append(min(left, max(1, round(generator.expovariate(4 / self.seq_q)))))
        return tuple(lengths)

    def visible_keys(self, sequence: int = 0) -> Iterator[range]:
        """Yield for each query row of one sequence of the batch the range of key columns that it sees."""
        offset, end = self.seq_k - self.seq_q, self.seq_k
        mask = self.mask
        if mask.kind == "document":
            start = 0
            for length in self.document_lengths(sequence):
                yield from (range(start, start + length) for _ in range(length))
                start += length
        elif mask.kind in ("none", "padding"):
            yield from (range(self.key_lengths[sequence]) for _ in range(self.seq_q))
        elif mask.kind == "causal-top-left":
            yield from (range(min(end, row + 1)) for row in range(self.seq_q))
        elif mask.kind == "window":
            for row in range(self.seq_q):
                yield range(max(0, row + offset - mask.left), min(end, row + offset + mask.right + 1))
        else:  # causal and prefix
            for row in range(self.seq_q):
                yield range(min(end, max(mask.prefix, row + offset + 1)))

    @property
    def visible_pairs(self) -> int:
        """Pairs of a query and a key that it sees, summed over the batch (of one head)."""
        return _visible_counts(self)[0]

    def flops(self) -> int:
        """Floating-point operations of the direction over the visible pairs.

        With P visible pairs: forward 2 * heads * P * (head_dim + head_dim_v); backward 2 * heads * P *
        (3 * head_dim + 2 * head_dim_v), which counts the recomputed scores, as FlashAttention's papers do
        (Dao, 2023, arXiv:2307.08691, section 4.1); `forward_backward` is their sum. Softmax is not counted. A
        layer's four projections are: 2 * tokens * width * embed_dim each forward, twice that backward.
        """
        return self._flops(self.visible_pairs)

    @property
    def executed(self) -> int:
        """Floating-point operations of an implementation that skips no masked pair: `flops` over all pairs."""
        return self._flops(self.batch * self.seq_q * self.seq_k)

    def _flops(self, pairs: int) -> int:
        forward = 2 * self.heads * pairs * (self.head_dim + self.head_dim_v)
        backward = 2 * self.heads * pairs * (3 * self.head_dim + 2 * self.head_dim_v)
        of_attention = {"forward": forward, "backward": backward, "forward_backward": forward + backward}
        return of_attention[self.direction] + sum(one.flops(self.direction) for one in projections.of(self))

    def bytes(self) -> int:
        """Bytes that any implementation must move: each input read once, each output written once.

        Keys and values count at kv_heads, and only those that some query sees. forward: Q + K + V + O;
        backward: reads Q, K, V, O, dO and the log-sum-exp (float32), writes dQ, dK, dV;
        `forward_backward` is their sum plus the log-sum-exp's being written. A layer's four projections each read
        tokens and weights and write their product; backward they read all three and write two gradients.
        """
        size = DTYPE_BYTES[self.dtype]
        seen = _visible_counts(self)[1]
        rows = self.batch * self.heads * self.seq_q
        query, output = rows * self.head_dim * size, rows * self.head_dim_v * size
        key, value = (seen * self.kv_heads * width * size for width in (self.head_dim, self.head_dim_v))
        lse = rows * LSE_BYTES
        forward = query + key + value + output
        backward = 2 * (query + key + value + output) + lse
        of_attention = {"forward": forward, "backward": backward, "forward_backward": forward + lse + backward}
        moved = sum(one.elements(self.direction) for one in projections.of(self))
        return of_attention[self.direction] + moved * size

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values, `mask` as its text."""
        return {**dataclasses.asdict(self), "mask": str(self.mask)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Workload:
        """Build a workload from `to_json`'s fields (those with defaults may be missing); raises WorkloadError."""
        names = [spec.name for spec in dataclasses.fields(cls)]
        for name in fields:
            if name not in names:
                raise WorkloadError(str(unknown("workload field", str(name), names)))
        for name in ("heads", "seq_q", "head_dim"):
            if name not in fields:
                raise WorkloadError(f"workload has no {name}: give it a whole number")
        for name, (left_out, source) in LEFT_OUT.items():
            if fields.get(name) == left_out:
                raise WorkloadError(f"{name} is {left_out}: expected a whole number, or leave it out for {source}'s")
        mask = fields.get("mask", "none")
        return cls(**{**fields, "mask": mask if isinstance(mask, Mask) else Mask.parse(str(mask))})


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@lru_cache(maxsize=4096)
def _visible_counts(workload: Workload) -> tuple[int, int]:
    """Count visible pairs and keys seen by at least one query, both summed over the batch."""
    alike = not workload.mask.is_seeded  # then one sequence stands for all
    pairs = seen = 0
    for sequence in range(min(1, workload.batch) if alike else workload.batch):
        end = 0  # range starts never move left, so keys before `end` are counted already
        for keys in workload.visible_keys(sequence):
            pairs += len(keys)
            seen += max(0, keys.stop - max(end, keys.start)) if keys else 0
            end = max(end, keys.stop) if keys else end
    factor = workload.batch if alike else 1
    return pairs * factor, seen * factor
