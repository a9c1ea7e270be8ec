"""Mutation tests of the suite: each wrong variant is caught by a check that the kill table names for it."""

import sys
from pathlib import Path

import pytest

from attnbench.conformance.suite import CHECKS

sys.path.insert(0, str(Path(__file__).parents[1] / "mutants"))
from kill_table import catching, load, mutant_files, read_table

KILLED = read_table()


def test_the_table_lists_every_mutant():
    """The kill table has one row per mutant, and each row names only existing checks."""
    assert sorted(KILLED) == sorted(path.stem.replace("_", "-") for path in mutant_files())
    assert len(KILLED) >= 33
    assert all(check in CHECKS for _, checks in KILLED.values() for check in checks)


@pytest.mark.parametrize("path", mutant_files(), ids=lambda path: path.stem)
def test_a_mutant_is_caught(path):
    """The first check that the kill table names for a mutant catches it."""
    _, mutant = load(path)
    level, (check, *_) = KILLED[mutant.name]
    assert catching(mutant, level, only=[check]) == [check]
