"""How a cell is measured: every setting that changes the number."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnbench.errors import UsageError, unknown

MODES = ("hot", "cold", "graph")
DEFAULT_PRECISION = {"cuda": 0.005, "cpu": 0.02}
REVISION = 1  # raised when the sampler's own behaviour changes what is measured


@dataclass(frozen=True)
class MeasureConfig:
    """How a cell is measured. Raises UsageError for a value that is out of range.

    - `precision`: relative half-width of the median's interval that ends sampling; None: 0.005 on CUDA, 0.02 on CPU
    - `budget_s`: seconds after which sampling stops whatever the precision, warm-up not counted
    - `min_samples`, `min_time_s`, `min_blocks`: no stop for precision before all three are reached
    - `block_s`: seconds that one block of the interleaving aims at; a slower call gives a block of one sample
    - `interleave`: variants of one workload take turns in A B B A order
    - `mode`: `hot` (back to back), `cold` (cache flushed before each call) or `graph` (CUDA graph, kernels alone)
    - `seed`: of the inputs, and of the sampler's random choices
    - `warm_up_min_s`, `warm_up_max_s`: bounds of the warm-up, which ends in between when two windows agree
    - `confidence`: of every interval
    """

    precision: float | None = None
    budget_s: float = 3.0
    min_samples: int = 20
    min_time_s: float = 0.2
    min_blocks: int = 10
    block_s: float = 0.02
    interleave: bool = True
    mode: str = "hot"
    seed: int = 0
    warm_up_min_s: float = 0.05
    warm_up_max_s: float = 3.0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Refuse what can't be measured."""
        if self.mode not in MODES:
            raise UsageError(str(unknown("mode", str(self.mode), MODES)))
        if self.precision is not None:
            _check_number("precision", self.precision, 0.0, 1.0)
        _check_number("confidence", self.confidence, 0.5, 1.0)
        for name in ("budget_s", "block_s", "warm_up_max_s"):
            _check_number(name, getattr(self, name), 0.0, math.inf)
        for name in ("min_time_s", "warm_up_min_s"):
            if getattr(self, name) != 0:
                _check_number(name, getattr(self, name), 0.0, math.inf)
        for name in ("min_samples", "min_blocks"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} is {value!r}: expected a whole number of at least 1")

    @property
    def protocol_id(self) -> str:
        """A short name of all settings: equal ids mean that samples were taken alike."""
        text = json.dumps({"revision": REVISION, **self.to_json()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def within(self, seconds: float) -> MeasureConfig:
        """Give the protocol that samples for `seconds` at most and warms up no longer than that. Raises UsageError."""
        warm_up_s = min(self.warm_up_max_s, max(self.warm_up_min_s, seconds))
        return dataclasses.replace(self, budget_s=seconds, warm_up_max_s=warm_up_s)

    def precision_on(self, device: str) -> float:
        """Give the relative half-width to reach on `device` ('cpu', 'cuda' or 'cuda:N')."""
        if self.precision is not None:
            return self.precision
        return DEFAULT_PRECISION["cuda" if device.startswith("cuda") else "cpu"]

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> MeasureConfig:
        """Build a protocol from `to_json`'s fields; missing ones take their defaults. Raises UsageError."""
        names = [spec.name for spec in dataclasses.fields(cls)]
        for name in fields:
            if name not in names:
                raise UsageError(str(unknown("protocol field", str(name), names)))
        return cls(**fields)


def _check_number(name: str, value: Any, above: float, below: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not above < value < below:
        limit = "" if below == math.inf else f" and below {below:g}"
        raise UsageError(f"{name} is {value!r}: expected a number above {above:g}{limit}")
