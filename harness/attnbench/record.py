"""What is known of one cell after it ran: one JSON line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attnbench.errors import RecordError
from attnbench.workload import Workload

SCHEMA = 1
NOT_INTERLEAVED = "not_interleaved"  # the flag of a record whose rounds no other variant shared
STATUSES = ("ok", "incorrect", "unsupported", "out_of_memory", "timeout", "crash", "error", "interrupted")
LONGEST_NAME = 1_000  # characters
SHORTEST_NS, LONGEST_NS = 1e-3, 1e18  # of a sample; far beyond what any clock tells
NAMES = (
    "record_id", "run_id", "cell_id", "variant", "plugin", "plugin_sha256", "device", "device_name", "environment_id",
    "protocol_id", "phase", "started_at", "ended_at", "mode",
)  # fmt: skip
KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys((*NAMES, "status"), (str,)),
    **dict.fromkeys(("reason", "tier", "stopped_by", "log"), (str, type(None))),
    **dict.fromkeys(("control", "exact"), (bool,)),
    **dict.fromkeys(("samples_ns", "cold_samples_ns", "block_sizes", "block_rounds", "flags"), (tuple,)),
    **dict.fromkeys(("peak_bytes", "saved_bytes", "flops", "bytes"), (int, type(None))),
    "schema": (int,),
    "first_call_ns": (int, float, type(None)),
    "kernels": (tuple, type(None)),
    "error": (dict, type(None)),
    "telemetry": (dict,),
}
ITEMS = {"flags": str, "kernels": str, "block_sizes": int, "block_rounds": int}


@dataclass(frozen=True)
class Record:
    """One cell's result in schema 1; units are in the names, an unknown value is None and never NaN.

    `samples_ns` holds every raw sample of the timed callable, in order; `block_sizes` says how many of them fell in
    each block and `block_rounds` which round of the interleaving that block was. Timing is there only when `status`
    is `ok`. `control` marks the A/A control: the baseline measured a second time under the same name.
    Raises RecordError for what does not fit.
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
    stopped_by: str | None = None
    first_call_ns: float | None = None
    cold_samples_ns: tuple[float, ...] = ()
    peak_bytes: int | None = None
    saved_bytes: int | None = None
    flops: int | None = None
    bytes: int | None = None
    kernels: tuple[str, ...] | None = None
    error: dict[str, Any] | None = None
    telemetry: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    log: str | None = None

    def __post_init__(self) -> None:
        """Check what readers rely on."""
        self._check_kinds()
        if self.schema != SCHEMA:
            raise RecordError(f"record {self.record_id}: schema is {self.schema!r}, this version reads {SCHEMA}")
        if self.status not in STATUSES:
            raise RecordError(f"record {self.record_id}: status is {self.status!r}, expected one of {STATUSES}")
        self._check_samples()
        if len(self.block_sizes) != len(self.block_rounds):
            raise RecordError(f"record {self.record_id}: block_sizes and block_rounds differ in length")
        if self.block_sizes and sum(self.block_sizes) != len(self.samples_ns or self.cold_samples_ns):
            raise RecordError(f"record {self.record_id}: block_sizes do not sum to the number of samples")

    def _check_kinds(self) -> None:
        for name, kinds in KINDS.items():
            if type(getattr(self, name)) not in kinds:
                raise RecordError(f"record {self.record_id!r:.80}: {name} is a {type(getattr(self, name)).__name__}")
        for name, kind in ITEMS.items():
            if not all(type(item) is kind for item in getattr(self, name) or ()):
                raise RecordError(f"record {self.record_id:.80}: {name} holds something other than {kind.__name__}")
        if any(len(getattr(self, name)) > LONGEST_NAME for name in NAMES):
            raise RecordError(f"record {self.record_id:.80}: a name is longer than {LONGEST_NAME} characters")
        if any(size < 0 for size in self.block_sizes):
            raise RecordError(f"record {self.record_id}: a block size is below 0")

    def _check_samples(self) -> None:
        if self.status != "ok" and (self.samples_ns or self.cold_samples_ns):
            raise RecordError(f"record {self.record_id}: status is {self.status!r}, yet it has times")
        if self.status == "ok" and not (self.samples_ns or self.cold_samples_ns):
            raise RecordError(f"record {self.record_id}: status is ok, yet it has no times")
        for sample in (*self.samples_ns, *self.cold_samples_ns):
            if type(sample) not in (int, float) or not SHORTEST_NS <= sample <= LONGEST_NS:
                raise RecordError(f"record {self.record_id}: a sample is {sample!r}, expected a positive number of ns")

    def to_line(self) -> str:
        """Give the record as one line of JSON, newline included."""
        fields = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        fields["workload"] = self.workload.to_json()
        return json.dumps(fields, allow_nan=False, ensure_ascii=True, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Record:
        """Build a record from parsed JSON; fields that this version does not know are left out."""
        if not isinstance(fields, Mapping):
            raise RecordError(f"a record is an object, got {type(fields).__name__}")
        known = {spec.name: fields[spec.name] for spec in dataclasses.fields(cls) if spec.name in fields}
        for name, value in known.items():
            if isinstance(value, list):
                known[name] = tuple(value)
        try:
            known["workload"] = Workload.from_json(known["workload"])
            return cls(**known)
        except RecordError:
            raise
        except Exception as error:
            raise RecordError(f"record {fields.get('record_id')!r} does not fit schema {SCHEMA}: {error}") from error
