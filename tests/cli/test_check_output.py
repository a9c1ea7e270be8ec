"""Output of `attnbench check` for given test results."""

import io
import json

import pytest
from rich.console import Console

from attnbench.cli.check_output import JsonOutput, LineOutput, TableOutput, Tally


def result(check, status, workload="b1-h1", **fields):
    """Return the result of one test in the form that a worker sends."""
    by_status = {
        "failed": {
            "reason": "row 3 is wrong", "remedy": "round to nearest", "repro": f"pytest -k {check}-{workload}",
        },
        "skipped": {"reason": f"{workload}: needs a GPU", "refusal": "needs a GPU"},
        "hint": {"reason": "refuses too much"},
    }  # fmt: skip
    given = {"reason": None, **by_status.get(status, {}), **fields}
    return {"check": check, "workload_id": workload, "status": status, "seconds": 0.5, **given}


def tally_of(*results, name="mine"):
    """Return the tally of a variant with these results."""
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
    """Return the text that a terminal shows for the tallies."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    output = TableOutput(console)
    for tally in tallies:
        output.variant_finished(tally)
    output.finished(tallies)
    return console.file.getvalue()


def test_plain_lines_show_every_failure_with_remedy_and_command(capsys):
    """If the output is piped, each failure is printed with its reason, remedy and command, and the counts come last."""
    tally, lines = tally_of(), LineOutput()
    for each in MIXED:
        tally.results.append(each)
        lines.test_finished(tally, each)
    lines.variant_finished(tally)
    text = capsys.readouterr().out
    assert text.count("FAILED mine: masks on ") == 5
    assert "  again  pytest -k masks-b6-h1\n" in text
    assert "hint   mine: refusals: refuses too much" in text
    assert "traits mine: nan-safe no, repeatable no, though claimed" in text
    assert text.endswith("mine (fused): 2 passed, 6 failed, 1 skipped in 5.5 s\n")


def test_a_terminal_shows_a_table_of_checks_and_the_remedies():
    """A terminal shows a row for each check, and at most three failures per check, each with a remedy and a command."""
    text = on_a_terminal(tally_of(*MIXED))
    assert next(line.split() for line in text.splitlines() if line.startswith("masks ")) == ["masks", "1", "5", "3.0"]
    assert text.count("masks on b") == 3
    assert text.count("pytest -k masks-b") == 3
    assert "not shown: 2 of masks; --json shows all failures, and --only masks shows those of one check" in text
    assert "round to nearest" in text
    assert "mine (tier fused)" in text


BROKEN = [
    result(f"check{check}", "failed", f"b{index}", bug=f"the scores are 1.0{index} times the right ones")
    for check in range(4)
    for index in (1, 2, 2)
]


def test_of_many_failures_each_check_shows_one_before_any_shows_two():
    """If many tests fail, a terminal shows six failures, spread over all checks, and says how many are not shown."""
    text = on_a_terminal(tally_of(*BROKEN))
    assert [text.count(f"check{check} on b") for check in range(4)] == [2, 2, 1, 1]
    assert "not shown: 1 of check0, 1 of check1, 2 of check2, 2 of check3" in text


def test_failures_that_look_like_one_bug_are_summed_up(capsys):
    """A likely bug that most failures share is printed last, even if the numbers in its description differ."""
    line = "10 of 12 failures look like the same bug; fix it first: the scores are 1.02 times the right ones"
    most = [*BROKEN[:10], *MIXED[1:3]]
    text = on_a_terminal(tally_of(*most))
    assert text.rstrip().endswith(line)
    assert text.count("remedy") == 1, "failures that the bug explains have no remedy"
    LineOutput().variant_finished(tally_of(*most))
    assert f"mine: {line}\n" in capsys.readouterr().out
    assert "same bug" not in on_a_terminal(tally_of(*BROKEN[:2]))
    assert "same bug" not in on_a_terminal(tally_of(*BROKEN[:3], *MIXED[1:6]))


def test_several_variants_end_in_one_table():
    """The last table has one row per variant, with its counts and traits, or the reason why none of its tests ran."""
    text = on_a_terminal(tally_of(*MIXED), tally_of(result("masks", "skipped"), name="absent"))
    last = text.splitlines()[-2:]
    assert last[0].split()[:5] == ["mine", "fused", "2", "6", "1"]
    assert last[1].startswith("absent")
    assert "needs a GPU" in last[1]


def test_a_variant_that_supports_nothing_shows_its_own_reason():
    """If no check except `refusals` ran, `nothing_ran` is the reason that the variant gave, without a workload."""
    only = tally_of(result("masks", "skipped"), result("refusals", "passed"), name="absent")
    assert only.nothing_ran == "needs a GPU"
    assert tally_of(result("masks", "skipped"), result("refusals", "failed")).nothing_ran is None
    assert tally_of(result("masks", "passed"), result("refusals", "passed")).nothing_ran is None


def test_a_test_skipped_by_the_suite_shows_the_suites_reason():
    """If the suite skipped a test that the variant did not refuse, the suite's reason is shown unchanged."""
    reason = "b1: not softmax attention"
    assert tally_of(result("masks", "skipped", reason=reason, refusal=None)).nothing_ran == reason


def test_a_command_line_is_never_wrapped():
    """A command is printed on one line, however long it is, so that it can be copied."""
    long = result("masks", "failed", repro="pytest " + "x" * 300)
    assert "pytest " + "x" * 300 in on_a_terminal(tally_of(long))


@pytest.mark.parametrize("statuses", [("passed", "failed"), ("skipped",)])
def test_json_is_all_results(capsys, statuses):
    """--json prints only a list of all results, each of which includes the variant's name."""
    tally = tally_of(*(result("masks", status) for status in statuses))
    output = JsonOutput()
    output.variant_started(tally)
    output.variant_finished(tally)
    output.finished([tally])
    found = json.loads(capsys.readouterr().out)
    assert [(each["variant"], each["status"]) for each in found] == [("mine", status) for status in statuses]
