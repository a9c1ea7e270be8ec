"""Suites as TOML files: how grids are read, and how malformed files are rejected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attnbench import Workload
from attnbench.errors import UsageError
from attnbench.workloads.suite import Suite, choose_suites, expand, parse_suite, read_suite

GOOD = """\
name = "mine"
description = "two shapes"

[defaults]
head_dim = 64
seq = 128

[[grid]]
title = "one"
source = "a paper"
heads = [2, 4]

[[grid]]
title = "two"
heads = 8
kv_heads = 2
batch_spec = "2q16_3q1s32"
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a suite's text to a file and returns the file's path."""

    def write_suite(text: str, name: str = "mine.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_suite


def test_grid_is_all_combinations(write):
    """A grid has a workload for each combination of its axes' values, in order, and keeps its title and source."""
    suite = read_suite(write(GOOD))
    assert [w.heads for w in suite.grids[0].workloads] == [2, 4]
    assert [grid.title for grid in suite.grids] == ["one", "two"]
    assert suite.grids[0].source == "a paper"


def test_batch_spec_has_one_workload_per_segment(write):
    """A batch spec defines one causal workload per segment and overrides the lengths in the defaults."""
    assert read_suite(write(GOOD)).grids[1].workloads == (
        Workload(batch=2, heads=8, kv_heads=2, seq_q=16, seq_k=16, head_dim=64, mask="causal"),
        Workload(batch=3, heads=8, kv_heads=2, seq_q=1, seq_k=32, head_dim=64, mask="causal"),
    )


def test_batch_spec_keeps_a_given_mask():
    """If a grid sets both a batch spec and a mask, its workloads have that mask."""
    workloads = expand({"heads": 1, "head_dim": 8, "batch_spec": "q4", "mask": "none"}, "here")
    assert [str(workload.mask) for workload in workloads] == ["none"]


def test_repeated_workloads_are_dropped():
    """A workload that occurs in two grids occurs only once in the suite."""
    grid = {"heads": 1, "head_dim": 8, "seq": 4}
    suite = parse_suite({"name": "twice", "grid": [grid, grid]}, "here")
    assert len(suite.workloads) == 1


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('description = "two', 'descripton = "two', 2, "unknown key 'descripton': did you mean 'description'"),
        ('description = "two shapes"', 'frontier = "yes"', 2, "frontier is 'yes': expected true or false"),
        ("kv_heads = 2", "kv_head = 2", 16, "unknown axis 'kv_head': did you mean 'kv_heads'"),
        ("head_dim = 64", "head_dims = 64", 5, "unknown axis 'head_dims': did you mean 'head_dim'"),
        ("heads = [2, 4]", "heads = []", 11, "axis 'heads' is empty: give it at least one value"),
        ("heads = [2, 4]", "heads = [\n  2,\n  -4,\n]", 11, "heads is -4: expected a whole number of at least 1"),
        ("head_dim = 64", "head_dim = 0", 5, "head_dim is 0: expected a whole number of at least 1"),
        ("seq = 128", "seq = 0", 6, "seq_q is 0: expected a whole number of at least 1"),
        ("seq = 128", "seq = -128", 6, "seq_q is -128: expected a whole number of at least 0"),
        ("kv_heads = 2", "kv_heads = 3", 15, "heads must be a multiple of kv_heads"),
        ("kv_heads = 2", 'mask = "causl"', 16, "unknown mask 'causl': did you mean 'causal'"),
        ("kv_heads = 2", 'softcap = "high"', 16, "softcap is 'high': expected a positive number"),
        ("kv_heads = 2", 'alibi = "yes"', 16, "alibi is 'yes': expected true or false"),
        ("2q16_3q1s32", "2q16_3x", 17, "can't read '3x': expected COUNTqQUERYsSEQUENCE"),
        ("kv_heads = 2", "seq_q = 4", 17, "batch_spec also sets seq_q: give only one of the two"),
        ('title = "two"', "title = 2", 14, "title is 2: expected a string"),
        ('name = "mine"', "name = 3", 1, "a suite needs a name, a string"),
        ("heads = 8", "heads = 8\nheads = 8", 16, "not valid TOML: Cannot overwrite a value"),
        ("seq = 128", "seq =", 6, "not valid TOML: Invalid value"),
    ],
)
def test_error_names_file_line_and_remedy(write, old, new, line, message):
    """A malformed suite file is rejected with a message that names the file, the line and what was expected."""
    assert old in GOOD
    path = write(GOOD.replace(old, new))
    with pytest.raises(UsageError, match=re.escape(f"{path}:{line}: ") + ".*" + re.escape(message)):
        read_suite(path)


@pytest.mark.parametrize("text", ['name = "x"', 'name = "x"\ngrid = []', 'name = "x"\ngrid = 3'])
def test_suite_without_grid_is_refused(write, text):
    """A suite without a grid is rejected."""
    with pytest.raises(UsageError, match=r"suite 'x' has no \[\[grid\]\]: give it at least one"):
        read_suite(write(text))


def test_missing_and_unreadable_files(write, tmp_path):
    """A file that is missing or is not UTF-8 text is rejected with a message that states the reason."""
    with pytest.raises(UsageError, match=r"none\.toml: can't be read: No such file"):
        read_suite(tmp_path / "none.toml")
    path = write("")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"mine\.toml: can't be read: not UTF-8"):
        read_suite(path)


def test_unclosed_document_names_its_last_line(write):
    """A file that ends too early is rejected with a message that contains the number of its last line."""
    with pytest.raises(UsageError, match=r"mine\.toml:2: not valid TOML"):
        read_suite(write('name = "x"\ngrid = [\n'))


def test_errors_in_a_plugins_table_name_the_grid():
    """If a plugin's suite is malformed, the error message names the plugin and the number of the grid."""
    with pytest.raises(UsageError, match=r"^plugin p: grid 1: heads is 0"):
        parse_suite({"name": "x", "grid": [{"heads": 0, "seq": 1, "head_dim": 1}]}, "plugin p")


def test_choose_by_name_and_path(write):
    """Suites can be chosen by name or by file path, and are returned in the given order without repeats."""
    path = str(write(GOOD))
    assert [suite.name for suite in choose_suites([path, "quick", path])] == ["mine", "quick"]


def test_choose_unknown_name():
    """An unknown suite is rejected with a message that suggests the most similar name."""
    with pytest.raises(UsageError, match="unknown suite 'quik': did you mean 'quick'"):
        choose_suites(["quik"])


def test_duplicate_name_is_refused(write):
    """A suite whose name is taken is rejected with a message that names its location and the other suite's origin."""
    path = write(GOOD.replace('"mine"', '"quick"'))
    with pytest.raises(
        UsageError, match=re.escape(f"{path}:1: the name 'quick' is already used by a suite of attnbench")
    ):
        choose_suites([str(path)])
    given = Suite("quick", "", ())
    with pytest.raises(UsageError, match="plugin p: the name 'quick' is already used by a suite of attnbench"):
        choose_suites(["quick"], [("p", given)])


def test_suite_of_a_plugin_is_chosen_by_name():
    """A suite that a plugin offers can be chosen by name, like a built-in suite."""
    given = Suite("theirs", "", ())
    assert choose_suites(["theirs"], [("p", given)]) == [given]
