"""The baseline of a run: the variant that the user names, else one that declares itself a baseline, else the first."""

import ast
from pathlib import Path

import pytest

import attnbench
from attnbench.errors import UsageError
from attnbench.plan.catalog import read_catalog
from attnbench.runner.request import plan_of
from attnbench.runner.resume import resumed, start_again
from attnbench.store import declared_baseline, read_manifest, read_run


def measured_last(run):
    """Return the variant whose record was stored last: the baseline, which stays open until all others are closed."""
    return read_run(run).records[-1].variant


@pytest.mark.parametrize(
    ("declared", "chosen", "baseline"),
    [
        ("", None, "alpha"),
        ("gamma", None, "gamma"),
        ("gamma beta", None, "beta"),
        ("gamma beta", "alpha", "alpha"),
        ("", "beta", "beta"),
    ],
)
def test_the_baseline_is_the_chosen_one_or_the_first_that_is_declared(stubbed, monkeypatch, declared, chosen, baseline):
    """The baseline is the variant given with `--baseline`.

    Without the option, it is the first variant by name that declares itself a baseline, or else the first variant.
    """
    monkeypatch.setenv("STUB_BASELINES", declared)
    run, _ = stubbed.run("alpha", "beta", "gamma", baseline=chosen)
    assert measured_last(run) == baseline
    assert declared_baseline(read_manifest(run)) == (baseline if declared or chosen else None)


def test_a_resumed_run_keeps_its_baseline(stubbed, monkeypatch):
    """A resumed run measures the missing cells with the baseline of the original run."""
    monkeypatch.setenv("STUB_BASELINES", "alpha")
    run, _ = stubbed.run("alpha", "beta", baseline="beta")
    for path in run.glob("records-*.jsonl"):
        path.unlink()
    _, plan = resumed(run)
    assert {cell.variant.name: cell.variant.baseline for cell in plan.cells} == {"alpha": False, "beta": True}
    cells = [("alpha", plan.cells[0].workload, "cpu:0"), ("beta", plan.cells[0].workload, "cpu:0")]
    repeated, _, _ = start_again(run, cells, stubbed.folder / "results", ())
    assert declared_baseline(read_manifest(repeated)) == "beta"


def test_a_baseline_must_be_among_the_variants(stubbed):
    """If `--baseline` names a variant that is not in the run, the error suggests the nearest name."""
    with pytest.raises(UsageError, match="unknown baseline 'alpah': did you mean 'alpha'"):
        plan_of(stubbed.request("alpha", "beta", baseline="alpah"))
    with pytest.raises(UsageError, match="unknown baseline 'gamma'"):
        plan_of(stubbed.request("alpha", "beta", baseline="gamma"))


@pytest.mark.parametrize("variants", [None, [], {"alpha": None}, {"alpha": {"baseline": "yes"}}, {"alpha": {}}])
def test_a_manifest_without_a_baseline_declares_none(variants):
    """A manifest declares no baseline if its variants are malformed, or missing as in manifests of older versions."""
    assert declared_baseline({"variants": variants}) is None


def test_the_core_names_no_variant():
    """No string in the harness is the name of a built-in variant, except in studies of specific variants."""
    also_words = {
        *("flex", "flashinfer", "sage"),  # also parts of the names of kernels
        "linear",  # also an axis scale in charts
        "ring",  # also a way to split a workload across devices
        "xformers",  # also a library, whose compiled part `doctor` loads
    }
    names = set(read_catalog().variants) - also_words
    assert "sdpa" in names
    harness = Path(attnbench.__file__).parent
    found = {
        f"{path.relative_to(harness)}:{node.lineno}: {node.value}"
        for path in harness.rglob("*.py")
        if path.parent.name != "study"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
    }
    assert found == set()
