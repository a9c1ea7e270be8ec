"""The traits of a run's variants, and the cached verdicts on them."""

import json
import shutil

import pytest

from attnbench.conformance.checks import TRAITS as CHECKS
from attnbench.plan import variant_traits
from attnbench.plugins.variant import TRAITS
from attnbench.store import read_manifest


def test_every_trait_has_its_check():
    """Each trait in the plugin contract has a check of the same name, and traits and checks are in the same order."""
    assert tuple(check.name for check in CHECKS) == TRAITS


def test_the_manifest_has_the_traits_of_timed_variants(stubbed):
    """The manifest has every variant's tier and claims, and the tested traits of each variant that was timed."""
    stubbed.behave(beta={"open": "exit"})
    manifest = read_manifest(stubbed.run()[0])
    declared = {"tier": "fused", "layout": "BHSD", "claims": [], "alignment_bytes": 1, "baseline": False}
    assert manifest["variants"]["alpha"] == declared
    expected = {"nan-safe": "no", "repeatable": "yes", "batch-invariant": "yes", "empty-keys": "yes"}
    assert manifest["traits"] == {"cpu:0": {"alpha": expected}}


def test_traits_are_tested_once_for_each_source(stubbed, monkeypatch):
    """The cached verdicts on traits are used until the plugin's source changes."""
    tested = []
    test = variant_traits._test
    monkeypatch.setattr(
        variant_traits, "_test", lambda variant, device: tested.append(variant.name) or test(variant, device)
    )
    for name, source in (("first", "0"), ("second", "0"), ("third", "1")):
        monkeypatch.setenv("STUB_SHA", source)
        shutil.rmtree(stubbed.folder / "cache/attnbench/plugins", ignore_errors=True)
        stubbed.run("alpha", name=name)
    assert tested == ["alpha", "alpha"]


@pytest.mark.parametrize("behaviour", ["exit", "raw", "hang:check"])
@pytest.mark.usefixtures("simulated_deadlines")
def test_a_variant_whose_trait_tests_fail_to_run_has_no_traits(stubbed, outcomes, behaviour):
    """If a trait test exits, sends an invalid reply or hangs, the variant has no traits, but its cells are still ok."""
    stubbed.behave(alpha={"check": behaviour})
    run, _ = stubbed.run("alpha")
    assert read_manifest(run)["traits"] == {"cpu:0": {}}
    assert {record.status for record in outcomes(run).values()} == {"ok"}


@pytest.mark.parametrize("text", ["", "[]", '{"alpha@0": 3}', '{"alpha@0": {"nan-safe": "<script>"}}'])
def test_a_malformed_cache_file_is_tested_again(stubbed, text):
    """The traits are tested again if the cache file does not contain verdicts on traits."""
    run, _ = stubbed.run("alpha", name="first")
    (kept,) = (stubbed.folder / "cache").rglob("traits-*.json")
    kept.write_text(text)
    run, _ = stubbed.run("alpha", name="second")
    assert set(read_manifest(run)["traits"]["cpu:0"]["alpha"]) == set(TRAITS)
    assert json.loads(kept.read_text())
