"""Records: the results of cells, each stored as one line of JSON."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from attnbench.errors import RecordError
from attnbench.untrusted import parse
from attnbench.workloads.workload import Workload

SCHEMA = 1
STOPPED = "stopped"  # flag of records that were measured while the run was stopped and continued, e.g. with Ctrl-Z
NOT_INTERLEAVED = "not_interleaved"  # flag of records whose variant was timed alone, not in turn with others
# Flag of records with the status `out_of_memory` whose memory was used up by the harness and not by the variant.
HARNESS_OUT_OF_MEMORY = "harness_out_of_memory"
SUSPECT = "suspect"  # flag of records whose times are doubtful for the reason in `reason`; such records are not ranked
STATUSES = ("ok", "incorrect", "unsupported", "out_of_memory", "timeout", "crash", "error", "interrupted")
MAX_INT = 2**63 - 1  # larger integers do not fit in a 64-bit column
MAX_NAME_LENGTH = 1_000  # in characters, for each of the fields in NAMES
MIN_SAMPLE_NS, MAX_SAMPLE_NS = 1e-3, 1e18  # bounds of a sample, far wider than any clock's range
NAMES = (
    "record_id", "run_id", "cell_id", "variant", "plugin", "plugin_sha256", "device", "device_name", "environment_id",
    "protocol_id", "phase", "started_at", "ended_at", "mode",
)  # fmt: skip
BLOCK_FIELDS = ("block_sizes", "block_rounds", "block_processes")  # lists with one item for each block
# The types that each field may have.
KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys((*NAMES, "status"), (str,)),
    **dict.fromkeys(("reason", "tier", "stopped_by", "log"), (str, type(None))),
    **dict.fromkeys(("control", "exact"), (bool,)),
    **dict.fromkeys(("samples_ns", "cold_samples_ns", *BLOCK_FIELDS, "flags"), (tuple,)),
    **dict.fromkeys(("peak_bytes", "saved_bytes", "harness_bytes", "flops", "bytes"), (int, type(None))),
    "schema": (int,),
    "first_call_ns": (int, float, type(None)),
    "kernels": (tuple, type(None)),
    "error": (dict, type(None)),
    "telemetry": (dict,),
}
_values, _names = operator.attrgetter(*KINDS), operator.attrgetter(*NAMES)
# The type of the items in each list.
ITEMS = {"flags": str, "kernels": str, **dict.fromkeys(BLOCK_FIELDS, int)}


@dataclass(frozen=True)
class Record:
    """The result of one cell, in version 1 of the schema.

    Field names include units. An unknown value is None, never NaN. `samples_ns` contains every raw sample of the timed
    callable, in order; in `cold` mode, `cold_samples_ns` contains them instead. `block_sizes` contains the number of
    samples in each block, `block_rounds` the round in which each block was timed, and `block_processes` the number of
    the process that timed it (empty if one process timed all blocks). Only records with status
    `ok` have samples. `control` marks the A/A control: the baseline measured a second time under the same name. Raises
    RecordError if a field has the wrong type or the fields contradict each other.
    """

    record_id: str
    run_id: str
    cell_id: str
    variant: str
    plugin: str
    plugin_sha256: str
    workload: Workload
    device: str
    device_name: str
    environment_id: str
    protocol_id: str
    status: str
    phase: str
    started_at: str
    ended_at: str
    schema: int = SCHEMA
    reason: str | None = None
    mode: str = "hot"
    control: bool = False
    tier: str | None = None
    exact: bool = True
    samples_ns: tuple[float, ...] = ()
    block_sizes: tuple[int, ...] = ()
    block_rounds: tuple[int, ...] = ()
    block_processes: tuple[int, ...] = ()
    stopped_by: str | None = None
    first_call_ns: float | None = None
    cold_samples_ns: tuple[float, ...] = ()
    peak_bytes: int | None = None
    saved_bytes: int | None = None
    harness_bytes: int | None = None
    flops: int | None = None
    bytes: int | None = None
    kernels: tuple[str, ...] | None = None
    error: dict[str, Any] | None = None
    telemetry: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    log: str | None = None

    def __post_init__(self) -> None:
        """Check the types of all fields, and that the fields are consistent with each other."""
        self._check_kinds()
        if self.schema != SCHEMA:
            raise RecordError(f"record {self.record_id}: schema is {self.schema!r}, this version reads {SCHEMA}")
        if self.status not in STATUSES:
            raise RecordError(f"record {self.record_id}: status is {self.status!r}, expected one of {STATUSES}")
        self._check_samples()
        if len(self.block_sizes) != len(self.block_rounds):
            raise RecordError(f"record {self.record_id}: block_sizes and block_rounds differ in length")
        if self.block_processes and len(self.block_processes) != len(self.block_sizes):
            raise RecordError(f"record {self.record_id}: block_sizes and block_processes differ in length")
        if self.block_sizes and sum(self.block_sizes) != len(self.samples_ns or self.cold_samples_ns):
            raise RecordError(f"record {self.record_id}: block_sizes do not sum to the number of samples")

    def _check_kinds(self) -> None:
        values = _values(self)
        if not _fit(*map(type, values)):
            name, value = next(
                (name, value) for name, value in zip(KINDS, values, strict=True) if type(value) not in KINDS[name]
            )
            raise RecordError(f"record {self.record_id!r:.80}: {name} is a {type(value).__name__}")
        for name, kind in ITEMS.items():
            if not {kind}.issuperset(map(type, getattr(self, name) or ())):
                raise RecordError(f"record {self.record_id:.80}: {name} holds something other than {kind.__name__}")
        if max(map(len, _names(self))) > MAX_NAME_LENGTH:
            raise RecordError(f"record {self.record_id:.80}: a name is longer than {MAX_NAME_LENGTH} characters")
        if min(self.block_sizes, default=0) < 0:
            raise RecordError(f"record {self.record_id}: a block size is below 0")
        if max(map(abs, self._whole_numbers())) > MAX_INT:
            raise RecordError(f"record {self.record_id}: a whole number is beyond 64 bits")

    def _whole_numbers(self) -> Iterator[int]:
        counts = (self.schema, self.peak_bytes, self.saved_bytes, self.harness_bytes, self.flops, self.bytes)
        blocks = self.block_sizes, self.block_rounds, self.block_processes
        return itertools.chain((count or 0 for count in counts), *blocks)

    def _check_samples(self) -> None:
        if self.status != "ok" and (self.samples_ns or self.cold_samples_ns):
            raise RecordError(f"record {self.record_id}: status is {self.status!r}, yet it has times")
        if self.status == "ok" and not (self.samples_ns or self.cold_samples_ns):
            raise RecordError(f"record {self.record_id}: status is ok, yet it has no times")
        samples = (*self.samples_ns, *self.cold_samples_ns)
        if samples and not _are_times(samples):
            wrong = next(sample for sample in samples if not _are_times((sample,)))
            raise RecordError(f"record {self.record_id}: a sample is {wrong!r}, expected a positive number of ns")

    @property
    def telemetry_blocks(self) -> list[dict[str, Any]]:
        """The telemetry of each block of samples. Entries that are not JSON objects are left out."""
        blocks = self.telemetry.get("blocks")
        return [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, (list, tuple)) else []

    def to_line(self) -> str:
        """Return the record as one line of JSON, including the newline."""
        fields = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        fields["workload"] = self.workload.to_json()
        return json.dumps(fields, allow_nan=False, ensure_ascii=True, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Record:
        """Build a record from parsed JSON, ignoring fields that this version does not have.

        Raises RecordError if `fields` is not a JSON object or not a valid record.
        """
        if not isinstance(fields, Mapping):
            raise RecordError(f"a record is a {type(fields).__name__}, expected a JSON object")
        known = {name: fields[name] for name in fields.keys() & KNOWN}
        for name in LISTS:
            if type(known.get(name)) is list:
                known[name] = tuple(known[name])
        try:
            known["workload"] = _workload(orjson.dumps(known["workload"]))
            return cls(**known)
        except RecordError:
            raise
        except Exception as error:
            raise RecordError(f"record {fields.get('record_id')!r} does not fit schema {SCHEMA}: {error}") from error


FIELDS = tuple(spec.name for spec in dataclasses.fields(Record))
KNOWN = frozenset(FIELDS)
# The fields that are lists in JSON and tuples in a record.
LISTS = tuple(name for name, kinds in KINDS.items() if tuple in kinds)


@lru_cache(maxsize=4096)
def _fit(*kinds: type) -> bool:
    """Return whether the values of a record's fields may have these types, which are given in the order of KINDS."""
    return all(kind in expected for kind, expected in zip(kinds, KINDS.values(), strict=True))


def _are_times(samples: tuple[Any, ...]) -> bool:
    """Return whether all samples are numbers from MIN_SAMPLE_NS to MAX_SAMPLE_NS."""
    # If a sample is NaN, the sum is NaN too, whereas min and max could miss it.
    if not {int, float}.issuperset(map(type, samples)) or math.isnan(sum(samples)):
        return False
    return bool(min(samples) >= MIN_SAMPLE_NS and max(samples) <= MAX_SAMPLE_NS)


@lru_cache(maxsize=4096)
def _workload(text: bytes) -> Workload:
    """Build a workload from its JSON. The result is cached, because the records of a run share a few workloads."""
    return Workload.from_json(parse(text))
