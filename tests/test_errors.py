"""Errors: their tree and what they say."""

import pytest

from attnbench import errors
from attnbench.errors import (
    AttnbenchError,
    MeasurementError,
    PluginError,
    RecordError,
    StorageError,
    UsageError,
    WorkloadError,
    unknown,
)

KINDS = {AttnbenchError, MeasurementError, PluginError, RecordError, StorageError, UsageError, WorkloadError}


def test_one_root_catches_all():
    """Whoever catches AttnbenchError catches everything that attnbench raises on purpose."""
    raised = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert set(raised) == KINDS
    assert all(issubclass(kind, AttnbenchError) for kind in raised)


def test_a_workloads_fault_is_the_users():
    """A bad workload is a bad usage; a broken plugin or record is not."""
    assert issubclass(WorkloadError, UsageError)
    assert not issubclass(PluginError, UsageError)
    assert not issubclass(RecordError, UsageError)


def test_the_drawn_tree_is_the_real_one():
    """The tree in the module's docstring names every exception."""
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
    """An unknown name is answered with the nearest known one, or with all when none is near."""
    assert str(unknown("variant", name, ["sdpa-flash", "sdpa", "naive", "sdpa"])) == message


def test_unknown_where_nothing_is_known():
    """With no choices at all the answer says so."""
    assert str(unknown("suite", "x", [])) == "unknown suite 'x': expected one of (none is known)"
