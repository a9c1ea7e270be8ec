"""The page on reliability names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py(?:::\w+)?)`", PAGE)))


def test_every_promise_names_a_test():
    """Each row of the tables of promises names at least one test."""
    promised = PAGE.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line for line in promised.splitlines() if line.startswith("|")]
    promises = [row for row in rows if not row.startswith(("| promise |", "|---"))]
    assert promises
    assert [row for row in promises if not re.search(r"`[\w/]+\.py(::\w+)?`", row)] == []


@pytest.mark.parametrize("named", NAMED)
def test_each_named_test_exists(named):
    """The file of each named test exists, and contains the test."""
    file, _, name = named.partition("::")
    functions = {node.name for node in ast.parse((TESTS / file).read_text()).body if isinstance(node, ast.FunctionDef)}
    assert not name or name in functions
