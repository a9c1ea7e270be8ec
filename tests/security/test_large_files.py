"""Each reader needs at most 1 GiB and 10 s of CPU time for a file of 10 MB, whatever the file contains."""

import json
import os
import subprocess
import sys

import pytest

import large_files
from command_line import attnbench


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Return what happened in each case of large_files.py."""
    place = tmp_path_factory.mktemp("large")
    done = subprocess.run(
        [sys.executable, large_files.__file__, str(place)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "XDG_CACHE_HOME": str(place / "c")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {outcome["case"]: outcome for outcome in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("case", large_files.CASES)
def test_a_large_file_is_read_or_refused_within_limits(outcomes, case):
    """The reader returns, or raises an error of attnbench, before it reaches the limit of CPU time or of memory."""
    outcome = outcomes[case]
    assert outcome["ended"] == 0, "the reader reached the limit of CPU time"
    assert "unexpected" not in outcome
    assert "\n" not in outcome.get("error", "")
    assert outcome["memory_bytes"] <= large_files.MEMORY_BYTES


def test_a_long_message_is_cut(tmp_path):
    """A message that quotes a long value is printed as one line of at most 4,000 characters."""
    suite = tmp_path / "long.toml"
    suite.write_text(f'name = "m"\n[[grid]]\nheads = 1\nhead_dim = 8\nseq = "{"x" * 100_000}"\n')
    done = attnbench("run", "--dry-run", "-s", str(suite), "-d", "cpu", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{suite}:5: seq_q is 'xxx" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 4_100
