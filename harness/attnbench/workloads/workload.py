"""One attention problem: shapes, dtype, mask and direction."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from attnbench.errors import WorkloadError, unknown
from attnbench.workloads import cost, mask
from attnbench.workloads.axis import Axis, Option, choice, flag, number, size
from attnbench.workloads.mask import PLAIN_KINDS, Mask

DIRECTIONS = ("forward", "backward", "forward_backward")
LAYOUTS = ("native", "BHSD", "BSHD")
DISTRIBUTIONS = ("normal", "uniform", "integers", "outliers", "zeros")
# The fields that each split divides among the devices.
MAX_SEEDED = 1_000_000  # sequences whose lengths are random
SPLITS = {
    "batch": ("batch",),
    "heads": ("heads", "kv_heads"),
    "ring": ("seq_q", "seq_k"),
}
NO_MASK = Mask()
EXAMPLE_ID = "b1-h8-s512-d64-float32-causal-forward"


@dataclass(frozen=True)
class Workload:
    """An attention problem. A workload is immutable and hashable, and it has a stable `id`.

    Shapes: query (batch, heads, seq_q, head_dim), key (batch, kv_heads, seq_k, head_dim),
    value (batch, kv_heads, seq_k, head_dim_v), output (batch, heads, seq_q, head_dim_v).
    By default, `kv_heads` equals `heads`, `seq_k` equals `seq_q`, and `head_dim_v` equals `head_dim`. A `scale` of None
    stands for 1/sqrt(head_dim). A `softcap` of c replaces each scaled score s with c * tanh(s / c) before the bias and
    the mask are applied. `alibi` adds `-slope_h * |i + seq_k - seq_q - j|` to the scores. `dropout` is the probability
    that a weight is dropped.

    These fields describe the surroundings of attention:

    - `embed_dim` above 0 makes the workload a whole layer: token embeddings (batch, seq_q, embed_dim) are projected to
      query, key and value, and the output of attention is projected back to (batch, seq_q, embed_dim). If seq_q differs
      from seq_k, keys and values are projected from a second sequence (batch, seq_k, embed_dim), as in cross attention.
      The projections have no biases.
    - `layout`: `native` means the variant's own layout. With `BHSD` or `BSHD` the tensors are given in that layout, and
      a variant that uses the other layout is timed together with the conversions of its inputs and output.
    - `distribution`: the distribution of the timed input values. Results are always checked on `normal` values.
    - `gpus`: the number of devices that work on the workload at the same time. On a CPU, the devices are cores. `split`
      names what is divided among the devices: the `batch`, the `heads` or, in a `ring`, the sequence.

    Raises WorkloadError if a field is not valid.
    """

    heads: int = field(metadata=size("h", "Numbers of query heads.", place=1, near=True))
    seq_q: int = field(metadata=size("q", minimum=0, place=4, setting=False))
    head_dim: int = field(metadata=size("d", "Head dimensions of queries and keys.", place=6))
    batch: int = field(
        default=1,
        metadata=size("b", "Batch sizes, e.g. 1,4.", minimum=0, place=0, in_every_id=True, setting=False, near=True),
    )
    kv_heads: int = field(
        default=0, metadata=size("kv", "Numbers of key and value heads.", same_as="heads", place=2, near=True)
    )
    seq_k: int = field(
        default=-1,
        metadata=size(
            "k",
            "Numbers of keys, if different from the number of queries.",
            minimum=0,
            same_as="seq_q",
            place=5,
            setting=False,
        ),
    )
    head_dim_v: int = field(
        default=0, metadata=size("v", "Head dimensions of values, if different.", same_as="head_dim", place=7)
    )
    dtype: str = field(
        default="float32",
        metadata=choice(
            "DTYPE", cost.DTYPE_BYTES, "Data types: float32, float16, bfloat16.", pattern=r"[a-z]+\d+", in_every_id=True
        ),
    )
    mask: Mask = field(
        default=NO_MASK,
        metadata={
            "axis": Axis(
                pattern="[a-z][a-z0-9:-]*?",
                in_every_id=True,
                option=Option(
                    "Masks: none, causal, causal-top-left, window:L:R ...", "MASK", (*PLAIN_KINDS, "window:", "prefix:")
                ),
            )
        },
    )
    direction: str = field(
        default="forward",
        metadata=choice("DIRECTION", DIRECTIONS, "Directions: forward, backward, forward_backward.", in_every_id=True),
    )
    scale: float | None = field(
        default=None,
        metadata=number("scale", lambda scale: scale > 0, "a positive number, or none for 1/sqrt(head_dim)"),
    )
    softcap: float | None = field(
        default=None, metadata=number("softcap", lambda softcap: softcap > 0, "a positive number, or none")
    )
    alibi: bool = field(default=False, metadata=flag())
    dropout: float = field(
        default=0.0, metadata=number("dropout", lambda dropout: 0 <= dropout < 1, "0 <= dropout < 1")
    )
    embed_dim: int = field(
        default=0,
        metadata=size(
            "embed", "Embedding widths of a whole attention layer; 0 for attention only.", minimum=0, surrounds=True
        ),
    )
    layout: str = field(
        default="native",
        metadata=choice("LAYOUT", LAYOUTS, "Layouts of the given tensors: native, BHSD, BSHD.", surrounds=True),
    )
    distribution: str = field(
        default="normal",
        metadata=choice(
            "NAME",
            DISTRIBUTIONS,
            "Distributions of the timed inputs: normal, uniform, integers, outliers, zeros.",
            surrounds=True,
        ),
    )
    gpus: int = field(
        default=1,
        metadata=size(
            "gpus",
            "Numbers of devices that work together (on a CPU: cores). On a cluster: types of GPU, e.g. H100,A100.",
            metavar="N,N|TYPE,TYPE",
            surrounds=True,
        ),
    )
    split: str = field(
        default="batch",
        metadata=choice(
            "SPLIT",
            SPLITS,
            "What is divided among the devices: batch, heads, ring.",
            written_with="gpus",
            surrounds=True,
        ),
    )

    def __post_init__(self) -> None:
        """Fill in omitted fields and check every field."""
        if isinstance(self.mask, str):
            object.__setattr__(self, "mask", Mask.parse(self.mask))
        for name, axis in AXES.items():
            value = getattr(self, name)
            if axis.same_as and value == axis.default:
                value = getattr(self, axis.same_as)
            object.__setattr__(self, name, axis.check(value))
        if self.gpus == 1:  # nothing is divided, so workloads that differ only in `split` must have the same id
            object.__setattr__(self, "split", AXES["split"].default)
        self._check_shapes()
        if self.embed_dim:
            self._check_layer()

    def _check_shapes(self) -> None:
        if self.heads % self.kv_heads:
            raise WorkloadError(
                f"heads is {self.heads} and kv_heads is {self.kv_heads}: heads must be a multiple of kv_heads",
                field="heads",
            )
        if self.mask.kind == "document" and self.seq_q != self.seq_k:
            raise WorkloadError(f"mask document needs seq_q == seq_k, got {self.seq_q} and {self.seq_k}", field="mask")
        if self.mask.is_seeded and self.batch > MAX_SEEDED:
            raise WorkloadError(
                f"batch is {self.batch}: expected at most {MAX_SEEDED} with mask {self.mask}, whose lengths are random",
                field="batch",
            )
        for name in SPLITS[self.split]:
            if getattr(self, name) % self.gpus:
                raise WorkloadError(
                    f"gpus is {self.gpus} and {name} is {getattr(self, name)}: "
                    f"split {self.split} needs a multiple of gpus",
                    field="gpus",
                )

    def _check_layer(self) -> None:
        clashes = (
            ("dropout", self.dropout > 0, "the output of a layer can't be checked under dropout"),
            ("layout", self.layout != "native", "a layer's tokens have no heads to lay out"),
            ("split", self.gpus > 1 and self.split != "batch", "the devices of a layer can only share the batch"),
        )
        for name, clash, why in clashes:
            if clash:
                message = f"{name} is {getattr(self, name)!r} and embed_dim {self.embed_dim}: {why}"
                raise WorkloadError(message, field=name)

    @property
    def id(self) -> str:
        """A stable, readable name. Workloads with the same id are equal, across processes and versions of attnbench."""
        values = {name: getattr(self, name) for name, axis in AXES.items() if self._is_written(axis)}
        if "seq_k" not in values:  # there are as many keys as queries
            values["seq"] = values.pop("seq_q")
        return "-".join(axis.id_part(values[axis.name]) for axis in ID_AXES if axis.name in values)

    def _is_written(self, axis: Axis) -> bool:
        """Return whether the id contains the value of an axis."""
        if axis.written_with:
            return self._is_written(AXES[axis.written_with])
        usual = getattr(self, axis.same_as) if axis.same_as else axis.default
        return axis.in_every_id or getattr(self, axis.name) != usual

    @classmethod
    def parse(cls, text: str) -> Workload:
        """Parse the `id` of a workload. Raises WorkloadError if the text is not an id; the message gives an example."""
        found = ID.fullmatch(f"-{text}")
        if found is None:
            raise WorkloadError(f"workload {text!r}: expected an id such as {EXAMPLE_ID}")
        read = {axis.name: axis.read for axis in ID_AXES}
        fields = {name: read[name](value) for name, value in found.groupdict().items() if value is not None}
        if "seq" in fields:
            fields["seq_q"] = fields["seq_k"] = fields.pop("seq")
        return cls.from_json(fields)

    @property
    def effective_scale(self) -> float:
        """The factor that scores are multiplied by: `scale`, or 1/sqrt(head_dim) if `scale` is None."""
        return self.head_dim**-0.5 if self.scale is None else self.scale

    @property
    def attention(self) -> Workload:
        """The workload that a variant is given: attention alone, on one device and in the variant's own layout."""
        return dataclasses.replace(self, **{name: axis.default for name, axis in AXES.items() if axis.surrounds})

    @property
    def share(self) -> Workload:
        """The part of the workload that one call computes. In a ring, each call works on the whole workload."""
        divided = (
            {} if self.split == "ring" else {name: getattr(self, name) // self.gpus for name in SPLITS[self.split]}
        )
        return dataclasses.replace(self, gpus=1, split="batch", **divided)

    @property
    def needs_gradient(self) -> bool:
        """Whether the direction includes a backward pass."""
        return self.direction != "forward"

    @property
    def key_lengths(self) -> tuple[int, ...]:
        """The number of valid keys of each sequence in the batch: a seeded length under `padding`, and seq_k otherwise.

        A seeded length is between a quarter of seq_k and seq_k. The first sequence has seq_k valid keys, as in a batch
        that was padded to its longest sequence. Seeded lengths depend only on batch and seq_k.
        """
        return mask.key_lengths(self)

    def document_lengths(self, sequence: int) -> tuple[int, ...]:
        """Return the lengths of the documents packed into one sequence of the batch; they sum to seq_q.

        Under a `document` mask, the lengths are seeded and depend only on seq_q and the index of the sequence. Under
        any other mask, the whole sequence is one document.
        """
        return mask.document_lengths(self, sequence)

    def visible_keys(self, sequence: int = 0) -> Iterator[range]:
        """Yield the range of visible keys for each query of one sequence of the batch."""
        return mask.visible_keys(self, sequence)

    @property
    def visible_pairs(self) -> int:
        """The number of pairs of a query and a visible key for one head, summed over the batch."""
        return mask.visible_counts(self)[0]

    def flops(self) -> int:
        """Return the number of floating-point operations for the workload's direction.

        Only visible pairs are counted. With P visible pairs, the numbers are:

        - forward: 2 * heads * P * (head_dim + head_dim_v)
        - backward: 2 * heads * P * (3 * head_dim + 2 * head_dim_v), including the recomputation of the scores, as in
          the FlashAttention papers (Dao, 2023, arXiv:2307.08691, section 4.1)
        - forward_backward: the sum of both

        The softmax is not counted. Each of a layer's four projections adds 2 * tokens * width * embed_dim operations in
        the forward pass, and twice as many in the backward pass.
        """
        return cost.flops(self)

    def bytes(self) -> int:
        """Return the number of bytes that any implementation must move.

        Each input is read once, and each output is written once. Keys and values are counted for each of the kv_heads,
        but only if they are visible to at least one query.

        - forward: reads Q, K and V, and writes O
        - backward: reads Q, K, V, O, dO and the log-sum-exp (float32), and writes dQ, dK and dV
        - forward_backward: does both, and also writes the log-sum-exp

        In the forward pass, each of a layer's four projections reads tokens and weights, and writes their product. In
        the backward pass, it reads the tokens, the weights and the gradient of the product, and writes the gradients of
        the tokens and the weights.
        """
        return cost.moved_bytes(self)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with `mask` as a string."""
        return {**dataclasses.asdict(self), "mask": str(self.mask)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Workload:
        """Build a workload from the fields that `to_json` returns. Fields with defaults may be missing.

        Raises WorkloadError if a field is unknown or not valid, or if a field without a default is missing.
        """
        for name, value in fields.items():
            if name not in AXES:
                raise WorkloadError(str(unknown("workload field", str(name), AXES)))
            if (source := AXES[name].same_as) and value == AXES[name].default:
                raise WorkloadError(
                    f"{name} is {value}: expected a whole number; leave it out to use {source}", field=name
                )
        for name, axis in AXES.items():
            if name not in fields and not axis.is_optional:
                raise WorkloadError(f"workload has no {name}: give it a whole number", field=name)
        mask = fields.get("mask", "none")
        return cls(**{**fields, "mask": mask if isinstance(mask, Mask) else Mask.parse(str(mask))})


def _id_pattern() -> re.Pattern[str]:
    """Return a regular expression for an id with a leading dash. It has a group for each axis."""
    patterns = {axis.name: axis.id_pattern for axis in ID_AXES}
    for axis in ID_AXES:
        if axis.written_with:
            patterns[axis.written_with] += patterns.pop(axis.name)
    patterns["seq"] = f"(?:{patterns['seq']}|{patterns.pop('seq_q')}{patterns.pop('seq_k')})"
    optional = {name for name, axis in AXES.items() if axis.is_optional and not axis.in_every_id}
    return re.compile("".join(f"(?:{part})?" if name in optional else part for name, part in patterns.items()))


# The shorthand that sets both seq_q and seq_k.
SEQ = Axis(
    name="seq",
    kind=int,
    prefix="s",
    place=3,
    option=Option("Sequence lengths of both queries and keys.", "N,N"),
)
_DECLARED = [
    dataclasses.replace(spec.metadata["axis"], name=spec.name, default=spec.default)
    for spec in dataclasses.fields(Workload)
]
AXES: Mapping[str, Axis] = {axis.name: axis for axis in sorted(_DECLARED, key=lambda axis: axis.place)}
ID_AXES = sorted([SEQ, *AXES.values()], key=lambda axis: axis.place)  # the parts of an id, in order of appearance
OPTIONS = [axis for axis in ID_AXES if axis.option]
ID = _id_pattern()
