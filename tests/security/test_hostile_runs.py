"""Runs of others are data: no command that reads them runs their code, writes elsewhere, or breaks page or terminal."""

import hashlib
import html.parser
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "packs"))
import hostile

from attnbench.analysis import load
from attnbench.store import read_run

SECRET = "the secret that no output may hold"  # noqa: S105 - a text to look for
PRINTS = {"\n", "\t"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Lay out a home with a secret, the hostile runs beside it, and where output may go."""
    place = tmp_path_factory.mktemp("hostile")
    (place / "home").mkdir()
    secret = place / "home" / "secret"
    secret.write_text(SECRET)
    (place / "results").mkdir()
    hostile.make(place / "results", secret)
    return place


def attnbench(place, *arguments):
    """Run the command line in the folder, as on a terminal."""
    environment = {**os.environ, "FORCE_COLOR": "", "HOME": str(place / "home")}
    return subprocess.run(
        [sys.executable, "-m", "attnbench", *map(str, arguments)],
        capture_output=True, cwd=place, env=environment, timeout=300, check=False,
    )  # fmt: skip


def assert_harmless(place, done):
    """No traceback, no control character, nothing of the secret, and the secret as it was."""
    told = (done.stdout + done.stderr).decode("utf-8", "strict")
    assert "Traceback" not in told, told[-2000:]
    assert "defect of attnbench" not in told, told[-2000:]
    strange = {character for character in told if not character.isprintable()} - PRINTS
    assert not strange, strange
    assert SECRET not in told
    assert (place / "home" / "secret").read_text() == SECRET
    assert sorted(path.name for path in (place / "home").iterdir() if not path.name.startswith(".")) == ["secret"]
    assert not (place / "owned").exists()
    assert len(told) < 2_000_000


RUNS = ("names", "lines numbers links logs plugin manifest-flat")


@pytest.mark.parametrize("runs", RUNS)
def test_a_report_of_hostile_runs_is_harmless(place, runs):
    """The report is written whole where it should go, and its page holds no script of theirs."""
    out = place / "out" / runs.split()[0]
    done = attnbench(place, "report", *runs.split(), "--out", out)
    assert_harmless(place, done)
    assert done.returncode == 0, done.stderr
    page = (out / "index.html").read_text(encoding="utf-8")
    assert SECRET not in page
    checker = Page()
    checker.feed(page)
    assert not checker.attacks
    for name in ("report.md", "tables.tex"):
        text = (out / name).read_text(encoding="utf-8")
        assert "<script" not in text
        assert "<img" not in text
        assert "\x1b" not in text


class Page(html.parser.HTMLParser):
    """Looks for what a browser would run: elements with handlers, and scripts that are not the page's own."""

    def __init__(self):
        super().__init__()
        self.attacks, self._in_script = [], False

    def handle_starttag(self, tag, attrs):
        self._in_script = tag == "script"
        for name, value in attrs:
            if name.startswith("on") or str(value).strip().lower().startswith("javascript:") or value == "x":
                self.attacks.append((tag, name, value))

    def handle_data(self, data):
        if self._in_script and "alert('owned')" in data:
            self.attacks.append(("script", "data", data[:100]))


def test_a_report_in_the_run_itself_follows_no_link(place):
    """Where the run's own report folder holds links, the report is refused by their name, and they are not followed."""
    done = attnbench(place, "report", "links")
    assert_harmless(place, done)
    assert done.returncode == 2
    assert b"is a link" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("list", "runs"),
        ("list", "runs", "--json"),
        ("compare", "names", "lines"),
        ("compare", "numbers", "lines", "--format", "markdown"),
        ("best", "names", "numbers"),
        ("export", "names", "lines", "numbers", "-o", "out/all.csv"),
        ("export", "names", "lines", "numbers", "--format", "parquet", "-o", "out/all.parquet"),
        ("export", "names", "numbers", "--format", "pytest-benchmark", "-o", "out/all.json"),
        ("explain", "0"),
    ],
    ids=" ".join,
)
def test_a_command_that_reads_hostile_runs_is_harmless(place, command):
    """It ends without a traceback, and lets no control character through."""
    assert_harmless(place, attnbench(place, *command))


@pytest.mark.parametrize("command", [("verify", "plugin"), ("run", "--resume", "plugin"), ("run", "--resume", "names")])
def test_a_plugin_that_came_with_a_run_is_not_loaded(place, command):
    """Nor is it by the commands that do load plugins: they refuse it by name."""
    done = attnbench(place, *command)
    assert_harmless(place, done)
    assert done.returncode != 0


def test_a_site_of_all_hostile_runs_stays_in_its_folder(place):
    """`publish` writes below its folder alone, whatever the runs are called; a run that can't be read is left out."""
    before = digest(place, "site")
    done = attnbench(place, "publish", place / "site", "--results", place / "results")
    assert_harmless(place, done)
    assert done.returncode == 0, done.stderr
    assert digest(place, "site") == before
    checker = Page()
    checker.feed((place / "site" / "index.html").read_text(encoding="utf-8"))
    assert not checker.attacks


def digest(place, left_out):
    """Hash every plain file under the place but one folder's."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_file() and not path.is_symlink() and left_out not in path.parts:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {name: value for name, value in found.items() if "/.cache/" not in name}


def test_what_is_sound_in_a_hostile_run_is_still_read(place):
    """The honest records stand; every other line is counted as torn or told as a problem."""
    reading = read_run(place / "results" / "lines")
    honest = [record for record in reading.records if record.variant in ("naive", "sdpa") and record.status == "ok"]
    assert len(honest) >= 6
    assert reading.torn_lines >= 9
    assert len(reading.problems) > 100
    reading = read_run(place / "results" / "links")
    assert len(reading.problems) == 4
    frame = load([place / "results" / "numbers"])
    assert frame["latency_ms"].dropna().between(0, 1e12).all()


def test_json_output_is_json_alone(place):
    """What a program reads is valid JSON without NaN, even of hostile runs."""
    done = attnbench(place, "compare", "names", "numbers", "--json")
    assert done.returncode in (0, 1), done.stderr
    json.loads(done.stdout, parse_constant=pytest.fail)
