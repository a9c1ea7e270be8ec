"""Exceptions: their hierarchy and messages."""

import pytest

from attnbench import errors
from attnbench.errors import (
    AttnbenchError,
    HarnessMemoryError,
    MeasurementError,
    PluginError,
    RecordError,
    StorageError,
    UsageError,
    WorkloadError,
    unknown,
)

KINDS = {
    AttnbenchError,
    HarnessMemoryError,
    MeasurementError,
    PluginError,
    RecordError,
    StorageError,
    UsageError,
    WorkloadError,
}


def test_one_root_catches_all():
    """Catching AttnbenchError catches everything that attnbench raises on purpose."""
    raised = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert set(raised) == KINDS
    assert all(issubclass(kind, AttnbenchError) for kind in raised)


def test_a_wrong_workload_is_a_usage_error():
    """WorkloadError is a UsageError, but PluginError and RecordError are not."""
    assert issubclass(WorkloadError, UsageError)
    assert not issubclass(PluginError, UsageError)
    assert not issubclass(RecordError, UsageError)


def test_the_documented_hierarchy_names_every_exception():
    """The docstring of `attnbench.errors` names every exception."""
    for kind in KINDS:
        assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spda", "unknown variant 'spda': did you mean 'sdpa'?"),
        ("sdpa-flsh", "unknown variant 'sdpa-flsh': did you mean 'sdpa-flash'?"),
        ("qqq", "unknown variant 'qqq': expected one of naive, sdpa, sdpa-flash"),
    ],
)
def test_unknown_names_the_nearest_or_all(name, message):
    """The error for an unknown name suggests the nearest known name, or lists all names if none is similar."""
    assert str(unknown("variant", name, ["sdpa-flash", "sdpa", "naive", "sdpa"])) == message


def test_unknown_where_nothing_is_known():
    """If there are no known names, the error says so."""
    assert str(unknown("suite", "x", [])) == "unknown suite 'x': expected one of (there are none)"
