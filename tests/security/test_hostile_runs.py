"""Tests that commands that read a hostile run neither execute its content nor print control characters."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "packs"))
import hostile

from attnbench.analysis import load
from attnbench.store import read_run
from command_line import attnbench

SECRET = "the secret that no output may hold"  # noqa: S105 - not a password, but a string to search for
ALLOWED_CONTROLS = {"\n", "\t"}
MANIFESTS = tuple(f"manifest-{index}" for index in range(4, 21))  # names of runs whose manifests have invalid fields


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder that contains both hostile runs and a home folder with a secret file."""
    place = tmp_path_factory.mktemp("hostile")
    (place / "home").mkdir()
    secret = place / "home" / "secret"
    secret.write_text(SECRET)
    (place / "results").mkdir()
    hostile.make(place / "results", secret)
    (place / "subset").mkdir()
    hostile.make_subset(place / "subset", secret)
    return place


def run(place, *arguments):
    """Run a command of attnbench in the folder `place` and return the finished process."""
    return attnbench(*arguments, cwd=place, environment={"FORCE_COLOR": "", "HOME": str(place / "home")})


def assert_harmless(place, done):
    """Assert that the output has no traceback, control character or secret, and that the secret file is unchanged."""
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed, printed[-2000:]
    assert "defect of attnbench" not in printed, printed[-2000:]
    strange = {character for character in printed if not character.isprintable()} - ALLOWED_CONTROLS
    assert not strange, strange
    assert SECRET not in printed
    assert (place / "home" / "secret").read_text() == SECRET
    assert sorted(path.name for path in (place / "home").iterdir() if not path.name.startswith(".")) == ["secret"]
    assert not (place / "owned").exists()
    assert len(printed) < 2_000_000


@pytest.mark.parametrize(
    "command",
    [
        ("list", "runs"),
        ("list", "runs", "--json"),
        ("report", "names", "--out", "out-names"),
        ("report", "lines", "numbers", "links", "logs", "plugin", *MANIFESTS, "--out", "out-others"),
        ("compare", "names", "lines", "--html", "compared.html"),
        ("compare", "names", "logs", "--format", "markdown"),
        ("best", "names"),
        ("best", "names", "--json"),
        *(("export", "names", "--format", form, "-o", f"export.{form}") for form in ("csv", "latex", "markdown")),
        ("export", "numbers", "--format", "pytest-benchmark", "-o", "export.json"),
        ("explain", "names"),
        ("verify", "plugin", "--sample", "1"),
        ("run", "--resume", "plugin"),
        ("publish", "site", "--results", "subset"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_command_that_reads_hostile_runs_is_harmless(place, command):
    """No command prints a traceback or control character, or copies the content of the secret file into its output."""
    assert_harmless(place, run(place, *command))
    written = (path for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == [place / "home" / "secret"]


def test_valid_records_of_a_hostile_run_are_read(place):
    """Valid records of a hostile run are read; every other line is counted as incomplete or reported as a problem."""
    reading = read_run(place / "results" / "lines")
    honest = [record for record in reading.records if record.variant in ("naive", "sdpa") and record.status == "ok"]
    assert len(honest) >= 6
    lines = sum(len(path.read_bytes().splitlines()) for path in (place / "results" / "lines").glob("records-*.jsonl"))
    assert len(reading.records) + reading.torn_lines + len(reading.problems) == lines
    assert reading.torn_lines == 8  # lines that are not JSON, are nested too deeply or have no line end
    assert len(reading.problems) > 100
    reading = read_run(place / "results" / "links")
    assert len(reading.problems) == 4
    frame = load([place / "results" / "numbers"])
    assert frame["latency_ms"].dropna().between(0, 1e12).all()
