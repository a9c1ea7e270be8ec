"""Axes: the declarations of a workload's fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass
from typing import Any

from attnbench.errors import WorkloadError, unknown

PATTERNS = {int: r"\d+", float: r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"}  # these match numbers as `repr` writes them


@dataclass(frozen=True)
class Option:
    """The command-line option for an axis.

    `metavar` is the placeholder for the value in the help text. Shell completion offers the `suggestions`.
    """

    help: str
    metavar: str
    suggestions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The declaration of one workload field, stored in the field's metadata.

    Ids, checks, suites, command-line options, charts, dispatch tables and pages derive their fields from the axes, so
    that a new field has to be declared only once. `AXES` in workload.py adds the `name` and `default` of the field.

    - `kind`: the type of the value.
    - `minimum`: the smallest valid `int`.
    - `accepts`: a function that returns true for a valid `float`. `expected` describes valid values in error messages.
    - `choices`: the valid values of a `str`. If there are no choices, every string is valid.
    - `prefix`: the characters before the value in an id.
    - `pattern`: a regular expression for the value in an id. By default, it is derived from `kind` and `choices`.
    - `in_every_id`: whether an id contains the value even if it is the default.
    - `written_with`: the name of another axis. An id contains the value of this axis if and only if it contains the
      value of the other axis.
    - `same_as`: the field whose value is used if this field is omitted.
    - `place`: the position in ids, options and tables. Axes without a place come last, in the order of declaration.
    - `option`: the command-line option, or None.
    - `surrounds`: whether the axis describes the surroundings of attention, such as a layer or several devices.
    - `setting`: whether all points on a line of a chart must have the same value.
    - `near`: whether a dispatch table may use the nearest measured value (on a logarithmic scale) in place of a value
      that was not measured.
    """

    name: str = ""
    kind: type = str
    default: Any = None
    minimum: int = 0
    accepts: Callable[[float], bool] = math.isfinite
    expected: str = ""
    choices: tuple[str, ...] = ()
    prefix: str = ""
    pattern: str = ""
    in_every_id: bool = False
    written_with: str = ""
    same_as: str = ""
    place: float = math.inf
    option: Option | None = None
    surrounds: bool = False
    setting: bool = True
    near: bool = False

    @property
    def exact(self) -> bool:
        """Whether a dispatch table applies only to values of this axis that were measured."""
        return self.setting and not self.near and not self.surrounds

    @property
    def is_optional(self) -> bool:
        """Whether a workload may be built without the field."""
        return self.default is not MISSING

    def check(self, value: Any) -> Any:
        """Return the value, converted to a float if `kind` is float. Raises WorkloadError if the value is not valid."""
        if self.kind is int and (isinstance(value, bool) or not isinstance(value, int) or value < self.minimum):
            raise self._refusal(value, f"a whole number of at least {self.minimum}")
        if self.kind is bool and not isinstance(value, bool):
            raise self._refusal(value, "true or false")
        if self.kind is float and not (value is None and self.default is None):
            if not (_is_number(value) and self.accepts(value)):
                raise self._refusal(value, self.expected)
            return float(value)  # 1 and 1.0 describe the same workload, so they need the same id
        if self.choices and str(value) not in self.choices:
            raise WorkloadError(str(unknown(self.name, str(value), self.choices)), field=self.name)
        return value

    def _refusal(self, value: Any, expected: str) -> WorkloadError:
        return WorkloadError(f"{self.name} is {value!r}: expected {expected}", field=self.name)

    def id_part(self, value: Any) -> str:
        """Return the part of an id that stands for the value, such as `kv8`, `float16` or `softcap50.0`."""
        return self.name if self.kind is bool else f"{self.prefix}{value}"

    @property
    def id_pattern(self) -> str:
        """A regex for the field's part of an id: a dash, the prefix, and the value in a group named after the field."""
        pattern = self.pattern or PATTERNS.get(self.kind) or self.name
        if self.choices and not self.pattern:
            always = self.in_every_id or self.written_with
            pattern = "|".join(choice for choice in self.choices if always or choice != self.default)
        return f"-{self.prefix}(?P<{self.name}>{pattern})"

    def read(self, text: str) -> Any:
        """Convert a string from an id or an option to a value. Raises ValueError if a number is malformed."""
        return True if self.kind is bool else self.kind(text)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def size(prefix: str, help: str = "", *, metavar: str = "N,N", minimum: int = 1, **more: Any) -> dict[str, Axis]:  # noqa: A002 - typer and pytest use this name
    """Return the metadata of a field whose value is a whole number.

    The field has a command-line option if `help` is given.
    """
    option = Option(help, metavar) if help else None
    return {"axis": Axis(kind=int, prefix=prefix, minimum=minimum, option=option, **more)}


def number(prefix: str, accepts: Callable[[float], bool], expected: str) -> dict[str, Axis]:
    """Return the metadata of a field whose value is a finite number for which `accepts` returns true.

    If the field's default is None, None is also valid.
    """
    return {"axis": Axis(kind=float, prefix=prefix, accepts=accepts, expected=expected)}


def flag() -> dict[str, Axis]:
    """Return the metadata of a field that is true or false. An id contains the field's name if the value is true."""
    return {"axis": Axis(kind=bool)}


def choice(metavar: str, choices: Iterable[str], help: str, **more: Any) -> dict[str, Axis]:  # noqa: A002 - typer and pytest use this name
    """Return the metadata of a field whose value is one of `choices`. Ids contain the value without a prefix."""
    known = tuple(choices)
    return {"axis": Axis(choices=known, option=Option(help, metavar, known), **more)}
