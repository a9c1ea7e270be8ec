"""The progress display of a run: plain lines, a progress bar on a terminal, and HTML in a notebook."""

import dataclasses
import sys
from types import SimpleNamespace

import pytest

from attnbench import Workload
from attnbench.measure_config import MeasureConfig
from attnbench.plan.catalog import VariantEntry
from attnbench.plan.cells import Cell, Plan
from attnbench.plan.devices import Device
from attnbench.plan.history import TimeEstimate
from attnbench.progress import Bar, NotebookBar, Progress, announcement, duration, progress
from attnbench.record import Record

CPU = Device("cpu", "a CPU", "")
WORKLOADS = [Workload(heads=1, seq_q=length, head_dim=8) for length in (16, 32, 64)]


def plan(*names, devices=(CPU,), **settings):
    """Return a plan that measures the named variants on every workload and device."""
    entries = [
        VariantEntry(
            name, "p", None, "", "BHSD", "fused", exact=True, default_on=("cpu",), traits=(), packages=(),
            baseline=False, summary="",
        )
        for name in names
    ]  # fmt: skip
    cells = [
        Cell(entry, workload, device, f"{entry.name}-{workload.id}-{device.name}")
        for device in devices for workload in WORKLOADS for entry in entries
    ]  # fmt: skip
    return Plan(tuple(cells), {"cpu": MeasureConfig(**settings)}, {})


def record(status, reason=None, **fields):
    """Return a record of naive's first cell."""
    samples = (2e6, 1e6, 3e6) if status == "ok" else ()
    return Record(
        record_id="r", run_id="r", plugin="p", plugin_sha256="", device="cpu", device_name="a CPU", environment_id="",
        protocol_id="", status=status, phase="done", reason=reason, samples_ns=samples, started_at="", ended_at="",
        **{"cell_id": "c", "variant": "naive", "workload": WORKLOADS[0], **fields},
    )  # fmt: skip


RECORDS = [record("ok"), record("unsupported", "no"), record("crash", "SIGSEGV \x1b[31m"), record("ok", control=True)]


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("quiet", ["[3/3] cpu naive b1-h1-s16-d8-float32-none-forward: crash: SIGSEGV ?[31m"]),
        ("normal", ["2 cells to time", "[1/3] ", "[3/3] "]),
        ("verbose", ["2 cells to time", "[1/3] ", "[2/3] ", "[3/3] "]),
    ],
)
def test_the_level_decides_which_records_are_shown(capsys, level, shown):
    """`quiet` shows only failures, and `verbose` shows unsupported cells too.

    Records of the A/A control are not counted, and escape characters in a reason are replaced by `?`.
    """
    with Progress(plan("naive"), level) as watching:
        watching.announce({"a": "no"}, TimeEstimate(5.0))
        for each in RECORDS:
            watching.record_stored(each)
    lines = capsys.readouterr().err.splitlines()
    assert [line[: len(beginning)] for line, beginning in zip(lines, shown, strict=True)] == shown


FINDINGS = [
    {"check": "governor", "level": "ok", "found": "performance", "remedy": None},
    {"check": "load", "level": "warning", "found": "2.0 of 2 CPUs busy", "remedy": "stop them"},
]


@pytest.mark.parametrize(
    ("level", "shown"), [("quiet", ""), ("normal", "attnbench doctor warns of load (2.0 of 2 CPUs busy)\n")]
)
def test_warnings_of_doctor_are_shown_at_the_start(capsys, level, shown):
    """The warnings of `attnbench doctor` are shown on one line, unless there are none or the level is `quiet`."""
    with Progress(plan("naive"), level) as watching:
        watching.run_started({"doctor": FINDINGS})
        watching.run_started({"doctor": FINDINGS[:1]})
        watching.run_started({})
    assert capsys.readouterr().err == shown


def test_a_bar_keeps_lines_for_failures(capsys):
    """On a terminal, a successful cell only advances the progress bar, while a failed cell also prints a line."""
    with Bar(plan("naive")) as watching:
        for each in RECORDS:
            watching.record_stored(each)
    shown = capsys.readouterr().err
    assert "crash" in shown
    assert "2.000 ms" not in shown
    assert "3/3" in shown


def test_no_color_turns_colours_off(capsys, monkeypatch):
    """If NO_COLOR is set, no colours are written, even to a terminal."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich treat the output as a terminal
    with Progress(plan("naive")) as watching:
        watching.record_stored(RECORDS[2])
    assert "\x1b[31m" not in capsys.readouterr().err


def test_a_notebook_shows_html(monkeypatch):
    """In a notebook, the progress bar is HTML that is updated in place, and each failed cell adds an escaped line."""
    shown = []

    class Shown:
        def update(self, html):
            shown.append(html.data)

    def display(html, *, display_id):
        assert display_id
        shown.append(html.data)
        return Shown()

    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setattr("IPython.display.display", display)
    with progress(plan("naive")) as watching:
        assert isinstance(watching, NotebookBar)
        watching.announce({"a": "no"}, TimeEstimate(5.0))
        for each in [*RECORDS, dataclasses.replace(record("crash"), reason="<script>")]:
            watching.record_stored(each)
        watching.run_started({"doctor": FINDINGS})
        watching.observer_failed("an observer raised")
    assert shown[0].startswith("2 cells to time, about 5 s; 1 more is unsupported here<br><progress")
    assert "crash: &lt;script&gt;" in shown[-1]
    assert shown[-1].endswith("warns of load (2.0 of 2 CPUs busy)<br>an observer raised")


def test_outside_a_terminal_and_a_notebook_lines_are_written(monkeypatch):
    """If standard error is not a terminal and there is no notebook, plain lines are written."""
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert type(progress(plan("naive"))) is Progress


def test_times_are_shown_in_readable_units():
    """Durations are shown in seconds, minutes or hours."""
    expected = {4.4: "4 s", 89: "89 s", 100: "2 min", 3600: "60 min", 7500: "2 h 5 min"}
    assert {seconds: duration(seconds) for seconds in expected} == expected
    assert announcement(10, 0, 60) == "10 cells to time, about 60 s"


def test_each_line_gives_the_time_left(capsys, monkeypatch):
    """After an estimate was announced, each line gives the time left, which follows the pace of the measured workloads.

    All cells of a workload are measured in turns, so the first cell that ends is enough to count its workload.
    """
    now = [100.0]
    monkeypatch.setattr("attnbench.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    with Progress(plan("naive", "sdpa")) as watching:
        watching.announce({}, TimeEstimate(90.0, [(WORKLOADS[0].id, 20.0), (WORKLOADS[1].id, 10.0)]))
        now[0] += 120.0  # twice as long as expected: 60 s more, or 31 s more because of the other workload's size
        watching.record_stored(record("ok"))
        watching.record_stored(record("ok", variant="sdpa"))
        watching.record_stored(record("ok", workload=WORKLOADS[1]))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "6 cells to time, about 2 min"
    assert lines[1].startswith("[1/6, 74 s left] cpu naive ")
    assert lines[2].startswith("[2/6, 74 s left] cpu sdpa ")
    assert lines[3].startswith("[3/6] cpu naive ")
