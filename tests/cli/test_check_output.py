"""What `attnbench check` shows of the suite's results."""

import io
import json

import pytest
from rich.console import Console

from attnbench.cli.check_output import Document, Lines, Tables, Tally


def result(check, status, workload="b1-h1", **fields):
    """Make one test's result, as a worker tells it."""
    told = {"failed": {"remedy": "do it rightly", "repro": f"pytest -k {check}-{workload}"}}.get(status, {})
    reason = {"failed": "row 3 is wrong", "skipped": f"{workload}: needs a GPU", "hint": "too shy"}.get(status)
    return {
        "check": check,
        "workload_id": workload,
        "status": status,
        "reason": reason,
        "refusal": "needs a GPU" if status == "skipped" else None,
        "seconds": 0.5,
        **told,
        **fields,
    }


def tally_of(*results, name="mine"):
    """Make a tally that has heard of results."""
    tally = Tally(name, "fused")
    tally.results += results
    return tally


MIXED = (
    result("masks", "passed"),
    *(result("masks", "failed", f"b{index}-h1") for index in range(2, 7)),
    result("needle", "skipped"),
    result("refusals", "hint"),
    result("nan-safe", "hint", trait=True),
    result("repeatable", "passed", trait=True),
    result("repeatable", "failed", "b2-h1", trait=True),
)


def on_a_terminal(*tallies):
    """Give what a terminal shows of tallies."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    shown = Tables(console)
    for tally in tallies:
        shown.end(tally)
    shown.close(tallies)
    return console.file.getvalue()


def test_plain_lines_tell_every_failure_with_remedy_and_command(capsys):
    """Piped, each failure has its reason, remedy and command, and the counts come last."""
    tally, lines = tally_of(), Lines()
    for each in MIXED:
        tally.results.append(each)
        lines.heard(tally, each)
    lines.end(tally)
    text = capsys.readouterr().out
    assert text.count("FAILED mine: masks on ") == 5
    assert "  again  pytest -k masks-b6-h1\n" in text
    assert "hint   mine: refusals: too shy" in text
    assert "traits mine: nan-safe no, repeatable no, though claimed" in text
    assert text.endswith("mine (fused): 2 passed, 6 failed, 1 skipped in 5.5 s\n")


def test_a_terminal_shows_a_table_of_checks_and_what_to_do():
    """Each check has a row; of many failures of one check three are shown, with a remedy and a command each."""
    text = on_a_terminal(tally_of(*MIXED))
    assert next(line.split() for line in text.splitlines() if line.startswith("masks ")) == ["masks", "1", "5", "3.0"]
    assert text.count("masks on b") == 3
    assert text.count("pytest -k masks-b") == 3
    assert "not shown: 2 of masks; --json has them all, --only masks those of one check" in text
    assert "do it rightly" in text
    assert "mine (tier fused)" in text


BROKEN = [
    result(f"check{check}", "failed", f"b{index}", bug=f"the scores are 1.0{index} times the right ones")
    for check in range(4)
    for index in (1, 2, 2)
]


def test_of_many_failures_each_check_shows_one_before_any_shows_two():
    """A terminal gets six failures of a variant that fails everywhere, of all checks, and how many more there are."""
    text = on_a_terminal(tally_of(*BROKEN))
    assert [text.count(f"check{check} on b") for check in range(4)] == [2, 2, 1, 1]
    assert "not shown: 1 of check0, 1 of check1, 2 of check2, 2 of check3" in text


def test_failures_that_look_like_one_bug_are_told_as_one(capsys):
    """Where most failures have one likely bug it is the last word, whatever its numbers; else nothing is said."""
    told = "10 of 12 failures look like one bug, to be mended first: the scores are 1.02 times the right ones"
    most = [*BROKEN[:10], *MIXED[1:3]]
    text = on_a_terminal(tally_of(*most))
    assert text.rstrip().endswith(told)
    assert text.count("remedy") == 1, "the bug is the remedy of all that it explains"
    Lines().end(tally_of(*most))
    assert f"mine: {told}\n" in capsys.readouterr().out
    assert "one bug" not in on_a_terminal(tally_of(*BROKEN[:2]))
    assert "one bug" not in on_a_terminal(tally_of(*BROKEN[:3], *MIXED[1:6]))


def test_several_variants_end_in_one_table():
    """Each variant has a row with its counts and traits, or the reason why nothing could be run."""
    text = on_a_terminal(tally_of(*MIXED), tally_of(result("masks", "skipped"), name="absent"))
    last = text.splitlines()[-2:]
    assert last[0].split()[:5] == ["mine", "fused", "2", "6", "1"]
    assert last[1].startswith("absent")
    assert "needs a GPU" in last[1]


def test_a_variant_that_only_refuses_says_why():
    """Where nothing passed but the check that refusals are true, the reason is told as where nothing ran at all."""
    only = tally_of(result("masks", "skipped"), result("refusals", "passed"), name="absent")
    assert only.nothing_ran == "needs a GPU"
    assert tally_of(result("masks", "skipped"), result("refusals", "failed")).nothing_ran is None
    assert tally_of(result("masks", "passed"), result("refusals", "passed")).nothing_ran is None


def test_a_commands_line_is_never_wrapped():
    """A command to copy stands on one line, however long."""
    long = result("masks", "failed", repro="pytest " + "x" * 300)
    assert "pytest " + "x" * 300 in on_a_terminal(tally_of(long))


@pytest.mark.parametrize("statuses", [("passed", "failed"), ("skipped",)])
def test_json_is_all_results(capsys, statuses):
    """--json prints one list of all results with their variant, and nothing else."""
    tally = tally_of(*(result("masks", status) for status in statuses))
    shown = Document()
    shown.begin(tally)
    shown.end(tally)
    shown.close([tally])
    found = json.loads(capsys.readouterr().out)
    assert [(each["variant"], each["status"]) for each in found] == [("mine", status) for status in statuses]
