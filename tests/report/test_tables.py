"""The tables of a report that describe how its runs were measured."""

import json

import attnbench
import synthetic
from attnbench.analysis.results import Results
from attnbench.report.content import METHOD
from attnbench.report.tables import failures, headline, latencies, method


def test_the_settings_of_an_unknown_type_of_device_are_shown_as_they_are(tmp_path):
    """A manifest from elsewhere may contain a type of device that this version does not know."""
    run = synthetic.make_run(tmp_path, cells=synthetic.workloads(seqs=(64,), heads=1, head_dim=16), rounds=4)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["protocols"] = {"tpu": {"precision": None}, "cuda": {"precision": None}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    settings = next(table for table in method(Results.load(run)) if table.title == "Protocol")
    assert [[cell.text for cell in row] for row in settings.rows] == [
        ["cuda", "precision", "0.005"],
        ["tpu", "precision", "None"],
    ]


def test_the_alignment_that_a_variant_declares_is_shown(tmp_path):
    """The table of variants shows the declared alignment in bytes, and nothing for runs that did not record it."""
    run = synthetic.make_run(tmp_path, cells=synthetic.workloads(seqs=(64,), heads=1, head_dim=16), rounds=4)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["variants"] = {"sdpa": {"tier": "fused", "alignment_bytes": 16}, "naive": {"tier": "plain"}}
    manifest["traits"] = {"cpu": {"sdpa": {"nan-safe": "yes"}, "naive": {}}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    shown = next(table for table in method(Results.load(run)) if table.title == "Conformance tiers and traits")
    at = shown.columns.index("alignment (bytes)")
    assert {row[0].text: row[at].text for row in shown.rows} == {"sdpa": "16", "naive": ""}


def rows_of(table):
    """Return the texts of a table's rows, by the text in the first column and by column."""
    return {row[0].text: dict(zip(table.columns, (cell.text for cell in row), strict=True)) for row in table.rows}


def test_standings_show_the_baseline_and_wrong_cells(tmp_path):
    """The baseline has a speed-up of 1.00x in its place, and the number of a variant's wrong cells is shown."""
    cells = synthetic.workloads(seqs=(512, 1024), masks=("causal",), directions=("forward",))
    run = synthetic.make_run(tmp_path, cells=cells, rounds=8, variants=("forgets-a-key", "naive", "sdpa"))
    (table,) = headline(attnbench.load(run))
    rows = rows_of(table)
    assert list(rows) == ["sdpa", "naive", "forgets-a-key"]
    assert rows["sdpa"]["speed-up over sdpa"] == "1.00x (baseline)"
    assert rows["forgets-a-key"]["ranked / cells"] == "0 / 2, 2 WRONG"
    assert " to " in rows["naive"]["smallest to largest"]
    assert "range" not in table.columns  # which would read as an interval


def test_suspect_times_are_marked_and_explained(tmp_path):
    """A suspect time is marked as such in the table of latencies, and its reason is listed with the failures."""
    cells = synthetic.workloads(seqs=(64,), heads=1, head_dim=16, directions=("forward",))
    suspect = {"flags": ("suspect",), "reason": "cached output?"}
    run = synthetic.make_run(tmp_path, cells=cells, variants=("sdpa",), rounds=4, replace=suspect)
    results = Results.load(run)
    assert all(row[-1].text.endswith(" (suspect)") for table in latencies(results) for row in table.rows)
    listed = failures(results).rows
    assert {tuple(cell.text for cell in row[1:4]) for row in listed} == {("sdpa", "suspect", "cached output?")}


def test_load_from_others_is_said_in_every_table(tmp_path):
    """The headline has the warning in place of a finding, no variant is best, and disturbed times are marked."""
    cells = synthetic.workloads(seqs=(512, 1024), masks=("causal",), directions=("forward",))
    run = synthetic.make_run(tmp_path, cells=cells, variants=("naive", "sdpa"), disturbed={"naive": 1.0, "sdpa": 1.0})
    (table,) = headline(attnbench.load(run))
    assert "no verdict: other processes used the cores in 100% of the blocks" in table.notes[0]
    assert not any(cell.best for row in table.rows for cell in row)
    results = Results.load(run)
    (times,) = latencies(results)
    assert all(cell.text.endswith(" (disturbed)") and not cell.best for row in times.rows for cell in row[2:])
    quality = next(table for table in method(results) if table.title == "Data quality")
    shown = {row[0].text: row[1].text for row in quality.rows}
    assert shown["blocks in which others had the cores"] == "100.0%"
    assert shown["cells with more than 50% such blocks, which have no verdict"] == "6 of 6"
    assert "unknown" in shown["noise floor"]


def test_an_interval_that_is_longer_on_one_side_is_shown_as_such(tmp_path):
    """A latency has `±` only if its interval reaches equally far down and up; otherwise, both sides are shown."""
    cells = synthetic.workloads(seqs=(512,), masks=("none",), directions=("forward",))
    run = synthetic.make_run(tmp_path, cells=cells, rounds=8, variants=("sdpa", "naive"))
    frame = attnbench.load(run)
    sdpa = frame["variant"] == "sdpa"
    frame = frame.assign(latency_ms=0.201, latency_low_ms=0.201 - 0.003, latency_high_ms=(0.201 + 0.003))
    frame.loc[sdpa, "latency_high_ms"] = 0.601
    (table,) = latencies(Results(frame))
    (row,) = rows_of(table).values()
    assert (row["naive"], row["sdpa"]) == ("0.201 ± 0.003", "0.201 (-0.003, +0.4)")


def test_the_method_describes_ties_as_they_are_decided():
    """The paragraph on the method says that ties are decided by paired rounds where there are any."""
    assert "in the rounds that both were timed in" in METHOD
    assert "Variants whose intervals overlap are tied" not in METHOD
