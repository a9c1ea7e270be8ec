"""What a run finds out of its variants besides their times."""

import json
import shutil

import pytest

from attnbench.conformance.checks import TRAITS as CHECKS
from attnbench.plan import variant_traits
from attnbench.plugins.variant import TRAITS
from attnbench.store import read_manifest


def test_every_trait_has_its_check():
    """The contract names the traits that the suite finds out."""
    assert tuple(check.name for check in CHECKS) == TRAITS


def test_a_run_tells_of_the_traits_of_what_it_timed(stubbed):
    """The manifest has each timed variant's tier, claims and traits; of one that failed there is nothing to say."""
    stubbed.behave(beta={"open": "exit"})
    manifest = read_manifest(stubbed.run()[0])
    assert manifest["variants"]["alpha"] == {"tier": "fused", "layout": "BHSD", "claims": [], "baseline": False}
    expected = {"nan-safe": "no", "repeatable": "yes", "batch-invariant": "yes", "empty-keys": "yes"}
    assert manifest["traits"] == {"cpu:0": {"alpha": expected}}


def test_traits_are_found_out_once_for_a_source(stubbed, monkeypatch):
    """A second run asks no worker, and one of another source asks again."""
    asked = []
    found = variant_traits._found
    monkeypatch.setattr(
        variant_traits, "_found", lambda variant, device: asked.append(variant.name) or found(variant, device)
    )
    for name, source in (("first", "0"), ("second", "0"), ("third", "1")):
        monkeypatch.setenv("STUB_SHA", source)
        shutil.rmtree(stubbed.folder / "cache/attnbench/plugins", ignore_errors=True)
        stubbed.run("alpha", name=name)
    assert asked == ["alpha", "alpha"]


@pytest.mark.parametrize("told", ["exit", "raw", "hang:check"])
def test_a_variant_that_can_not_be_asked_costs_its_row(stubbed, outcomes, monkeypatch, told):
    """A test that ends the worker, forges or hangs leaves the variant's traits untold, and its cells ok."""
    monkeypatch.setattr(variant_traits, "TIMEOUT_S", 0.3)
    stubbed.behave(alpha={"check": told})
    run, _ = stubbed.run("alpha")
    assert read_manifest(run)["traits"] == {"cpu:0": {}}
    assert {record.status for record in outcomes(run).values()} == {"ok"}


@pytest.mark.parametrize("text", ["", "[]", '{"alpha@0": 3}', '{"alpha@0": {"nan-safe": "<script>"}}'])
def test_a_broken_cache_is_not_believed(stubbed, text):
    """What does not read as traits is found out again."""
    run, _ = stubbed.run("alpha", name="first")
    (kept,) = (stubbed.folder / "cache").rglob("traits-*.json")
    kept.write_text(text)
    run, _ = stubbed.run("alpha", name="second")
    assert set(read_manifest(run)["traits"]["cpu:0"]["alpha"]) == set(TRAITS)
    assert json.loads(kept.read_text())
