"""The script that runs everything on a GPU: its dry run, and its bookkeeping with a stand-in for Python."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tests" / "gpu" / "run_all.sh"
STAND_IN = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
[[ "$*" == *"$FAILING"* && -n "$FAILING" ]] && exit "$FAILURE"
[[ "$*" == *"$SLOW"* && -n "$SLOW" ]] && exec sleep 30
exit 0
"""


@pytest.fixture
def script(tmp_path):
    """Run the script with a stand-in for Python that notes its arguments, and fails or hangs where it is told to."""
    python = tmp_path / "python"
    python.write_text(STAND_IN)
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
    """The dry run names every piece, the most telling first, each under nine minutes, and calls nothing."""
    done, calls = script("--dry-run")
    assert done.returncode == 0
    pieces = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert pieces[:5] == ["install", "smoke", "triton", "agreement", "suite-standard"]
    assert {"check", "caught", "faults", "report", "suite-long-context", "suite-vision"} <= set(pieces)
    assert all(int(line.split()[-2]) < 540 for line in done.stdout.splitlines())
    assert calls == []


def test_done_pieces_are_not_run_again(script):
    """A piece that ended well is skipped by the next call; one that failed is tried again and stops no other."""
    first, _ = script("agreement", "caught", "suite-gpt", FAILING="tests/gpu/agreement.py", FAILURE="3")
    assert first.returncode == 1
    assert "agreement: exit 3" in first.stdout
    assert "suite-gpt: ok" in first.stdout
    second, calls = script("agreement", "caught", "suite-gpt")
    assert second.returncode == 0
    assert calls == ["tests/gpu/agreement.py"]


def test_suite_with_failed_cells_is_done(script):
    """A suite that ended with failed cells is done; its records tell, and the script's exit code does."""
    done, calls = script("suite-gpt", FAILING="-m attnbench run -s gpt")
    assert (done.returncode, len(calls)) == (1, 1)
    assert "failed in part" in done.stdout
    assert script("suite-gpt")[1] == []


def test_suite_out_of_time_goes_on(script, tmp_path):
    """A suite that runs out of time is interrupted, and the next call resumes its run."""
    done, _ = script("suite-gpt", SLOW="-s gpt", LIMIT="1")
    assert "out of time" in done.stdout
    run = tmp_path / "out" / "runs" / "gpt"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text("{}")
    _, calls = script("suite-gpt")
    assert calls == [f"-m attnbench run --resume {run}"]


def test_unknown_piece_is_refused(script):
    """A misspelt piece is exit 2, with the pieces that there are."""
    done, _ = script("suite-gtp")
    assert done.returncode == 2
    assert "unknown piece suite-gtp; there are: install smoke" in done.stderr


@pytest.mark.parametrize("name", ["agreement", "caught", "faults", "summary", "fault_pack"])
def test_scripts_compile(name):
    """Each script on the GPU side is valid Python whose names of ours exist."""
    path = SCRIPT.parent / f"{name}.py"
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", f"import runpy; runpy.run_path({str(path)!r}, run_name='loaded')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
