"""The GPU script's dry run, failures and resumption, tested with a fake Python interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tests" / "gpu" / "run_all.sh"
FAKE_PYTHON = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
[[ "$*" == *"$FAILING"* && -n "$FAILING" ]] && exit "$FAILURE"
[[ "$*" == *"$SLOW"* && -n "$SLOW" ]] && exec sleep 30
exit 0
"""


@pytest.fixture
def script(tmp_path):
    """Return a function that runs the script with a fake interpreter, which logs its calls and can fail or hang."""
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    calls = tmp_path / "calls"

    def run(*arguments, **environment):
        calls.write_text("")
        settings = {"PYTHON": str(python), "CALLS": str(calls), "FAILING": "", "FAILURE": "1", "SLOW": ""}
        done = subprocess.run(
            [str(SCRIPT), "--out", str(tmp_path / "out"), *arguments],
            env={**os.environ, **settings, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done, calls.read_text().splitlines()

    return run


def test_dry_run_lists_the_pieces_and_runs_none(script):
    """The dry run lists every piece in order, each with a time limit under nine minutes, and runs no command."""
    done, calls = script("--dry-run")
    assert done.returncode == 0
    pieces = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert pieces[:5] == ["install", "smoke", "triton", "agreement", "suite-standard"]
    assert {"check", "caught", "faults", "report", "suite-long-context", "suite-vision"} <= set(pieces)
    assert all(int(line.split()[-2]) < 540 for line in done.stdout.splitlines())
    assert calls == []


def test_done_pieces_are_not_run_again(script):
    """A failed piece does not stop the others; the next call retries it and skips the pieces that succeeded."""
    first, _ = script("agreement", "caught", "suite-gpt", FAILING="tests/gpu/agreement.py", FAILURE="3")
    assert first.returncode == 1
    assert "agreement: exit 3" in first.stdout
    assert "suite-gpt: ok" in first.stdout
    second, calls = script("agreement", "caught", "suite-gpt")
    assert second.returncode == 0
    assert calls == ["tests/gpu/agreement.py"]


def test_suite_with_failed_cells_is_done(script):
    """A suite that ended with failed cells is not run again, and the script's exit code is 1."""
    done, calls = script("suite-gpt", FAILING="-m attnbench run -s gpt")
    assert (done.returncode, len(calls)) == (1, 1)
    assert "some cells or tests failed" in done.stdout
    assert script("suite-gpt")[1] == []


def test_suite_out_of_time_is_resumed(script, tmp_path):
    """A suite that exceeds the time limit is interrupted, and the next call resumes its run."""
    done, _ = script("suite-gpt", SLOW="-s gpt", LIMIT="1")
    assert "out of time" in done.stdout
    run = tmp_path / "out" / "runs" / "gpt"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text("{}")
    _, calls = script("suite-gpt")
    assert calls == [f"-m attnbench run --resume {run}"]


def test_unknown_piece_is_refused(script):
    """If a piece is misspelt, the script lists the valid pieces and exits with code 2."""
    done, _ = script("suite-gtp")
    assert done.returncode == 2
    assert "unknown piece suite-gtp; expected one of: install smoke" in done.stderr


@pytest.mark.parametrize("name", ["agreement", "caught", "faults", "summary", "fault_pack"])
def test_scripts_compile(name):
    """Each Python script for the GPU can be loaded, so every module that the script imports exists."""
    path = SCRIPT.parent / f"{name}.py"
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", f"import runpy; runpy.run_path({str(path)!r}, run_name='loaded')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
