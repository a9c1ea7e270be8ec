"""The suite is tested by mutation: each wrong variant is caught, and the document says by which checks."""

import sys
from pathlib import Path

import pytest

from attnbench.conformance.suite import CHECKS

sys.path.insert(0, str(Path(__file__).parents[1] / "mutants"))
from kill_table import DOCUMENT, catching, load, mutant_files, read_table

TABLE = read_table()


def test_the_document_lists_every_mutant():
    """The kill table has one row a mutant, and none without a check that catches it."""
    assert sorted(TABLE) == sorted(path.stem.replace("_", "-") for path in mutant_files())
    assert len(TABLE) >= 33
    assert all(check in CHECKS for _, checks in TABLE.values() for check in checks)


def test_the_document_lists_every_check_and_trait():
    """The document's tables say of each check what the catalogue says: `make docs` writes them."""
    text = DOCUMENT.read_text(encoding="utf-8")
    missing = [
        name for name, check in CHECKS.items() if f"| `{name}` | {check.demands} | {check.usual_bug} |" not in text
    ]
    assert missing == []


@pytest.mark.parametrize("path", mutant_files(), ids=lambda path: path.stem)
def test_a_mutant_is_caught(path):
    """The first check that the kill table names for a mutant catches it."""
    _, mutant = load(path)
    level, (check, *_) = TABLE[mutant.name]
    assert catching(mutant, level, only=[check]) == [check]
