"""The tables of a report that describe how its runs were measured."""

import json

import synthetic
from attnbench.analysis.results import Results
from attnbench.report.tables import method


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
