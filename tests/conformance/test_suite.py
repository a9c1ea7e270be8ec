"""Tests of the conformance suite: its choice of tests for a variant, its results, and its checks."""

import inspect
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attnbench import Variant, variant
from attnbench.conformance.check import LEVELS, Failed, Skipped
from attnbench.conformance.check_workloads import workload
from attnbench.conformance.checks import device, hypothesis_fuzz
from attnbench.conformance.checks.log_sum_exp import log_sum_exp
from attnbench.conformance.subject import Subject
from attnbench.conformance.suite import CHECKS, cases, checks, find_check, run_case
from attnbench.errors import UsageError
from attnbench.plugins.loading import entry_point_sources, load_all

sys.path.insert(0, str(Path(__file__).parents[1] / "mutants"))
from tiled import Tiled

BUILT_IN = ("naive", "sdpa", "chunked")


@variant("textbook", tier="plain")
def textbook(query, key, value, workload):
    """Compute plain attention without a mask, softcap, bias or grouped heads."""
    return torch.softmax(query @ key.mT * workload.effective_scale, -1) @ value


class Plain(Variant):
    """A variant that supports only plain attention."""

    name = "plain"
    tier = "plain"

    def unsupported_reason(self, workload, device):
        """Return a reason for every workload that is not plain attention."""
        w = workload
        odd = w.mask.kind != "none" or w.softcap or w.alibi or w.dropout or w.kv_heads != w.heads or not w.seq_k
        return "only plain attention is written" if odd else None

    def prepare(self, workload, inputs):
        """Return a callable that computes the textbook formula."""
        return textbook.prepare(workload, inputs)


def built_in():
    """Return the built-in variants by name."""
    loaded = (plugin for _, plugin in load_all(entry_point_sources(), skip={}))
    return {each.name: each for plugin in loaded for each in getattr(plugin, "variants", ())}


def outcomes(tested, *names, level="quick", seed=0):
    """Run the named checks (default: all) and return their results."""
    return list(checks(tested, level=level, seed=seed, only=names or None))


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_every_check_explains_itself(check):
    """Each check has workloads, and explains what it demands and why, the usual bug, and the remedy."""
    text = check.explain()
    for part in (check.name, check.demands, check.why, check.usual_bug, check.remedy):
        assert len(part) > 3
        assert part in text
    assert check.workloads("thorough")
    assert set(check.workloads("quick")) <= set(check.workloads("full")) <= set(check.workloads("thorough"))


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_check_is_in_one_place(check):
    """Each check is defined in one place: its decorator contains its name, explanation and workloads."""
    assert check in vars(sys.modules[check.run.__module__]).values()
    source = inspect.getsource(check.run)
    for part in (f'"{check.name}"', *(f"{word}=" for word in ("demands", "why", "usual_bug", "remedy")), check.demands):
        assert part in source
    assert any(f"{level}=" in source for level in LEVELS)


def test_an_unknown_check_or_level_names_the_nearest():
    """The error for a misspelt check or level names the nearest one."""
    with pytest.raises(UsageError, match="did you mean 'needle'"):
        find_check("needles")
    with pytest.raises(UsageError, match="did you mean 'quick'"):
        cases(Tiled(), level="quik")


@pytest.mark.parametrize("name", ["tiled", *BUILT_IN])
def test_no_correct_variant_fails(name):
    """Correct variants fail no check of the quick level."""
    tested = Tiled() if name == "tiled" else built_in()[name]
    results = outcomes(tested, seed=11)
    assert [(each.check, each.workload_id, each.reason) for each in results if each.status == "failed"] == []
    assert sum(each.status == "passed" for each in results) > 80


def test_a_failure_comes_with_reason_remedy_and_command():
    """A failure has a remedy and a command that runs only that test again, and the other tests still run."""
    failed = [
        each for each in checks(textbook, level="quick", plugin="my plug.py", only=["masks"]) if each.status == "failed"
    ]
    assert failed[0].remedy == CHECKS["masks"].remedy
    again = "pytest --pyargs attnbench.conformance --variant textbook --plugin 'my plug.py' --level quick -k masks-"
    assert failed[0].repro.startswith(again)
    assert failed[0].workload_id in failed[0].repro
    assert set(failed[0].to_json()) >= {"check", "workload_id", "status", "reason", "remedy", "repro", "seconds"}
    assert len(failed) > 10


def test_an_unsupported_workload_is_skipped_with_the_reason():
    """A test on a workload that the variant refuses is skipped, with the variant's reason."""
    results = outcomes(Plain(), "masks", "uniform")
    assert {each.status for each in results} == {"passed", "skipped"}
    refused = [each for each in results if each.status == "skipped"]
    assert {each.refusal for each in refused} == {"only plain attention is written"}
    assert all(each.reason == f"{each.workload_id}: {each.refusal}" for each in refused)


def test_a_workload_is_replaced_by_the_nearest_supported_one():
    """A variant without grouped heads, or with only one dtype, is tested on workloads that it supports."""
    found = cases(Plain(), only=["lengths", "uniform"])
    assert any(case.check.name == "uniform" and case.workload.kv_heads == case.workload.heads for case in found)

    class OnlyHalf(Tiled):
        def unsupported_reason(self, workload, device):
            return None if workload.dtype == "float16" else "float16 only"

    assert {case.workload.dtype for case in cases(OnlyHalf(), level="quick")} == {"float16"}


@pytest.mark.parametrize(
    "accepts",
    [
        lambda w: w.seq_q == w.seq_k and w.head_dim == 64 and w.kv_heads == w.heads and not w.needs_gradient,
        lambda w: w.seq_k % 256 == 0 and w.head_dim % 64 == 0 and not w.needs_gradient and w.dtype == "bfloat16",
        lambda w: w.seq_q % 128 == w.seq_k % 128 == 0 and w.head_dim == 64 and not w.needs_gradient,
    ],
    ids=["squares", "pages", "tiles"],
)
def test_many_demands_are_relaxed_at_once(accepts):
    """A variant with several restrictions, as is usual in inference libraries, is tested with the common masks."""

    class Limited(Tiled):
        def unsupported_reason(self, workload, device):
            return None if accepts(workload) else "not this one"

    found = cases(Limited(), level="quick", only=["masks"])
    masks = {case.workload.mask.kind for case in found if accepts(case.workload)}
    assert masks >= {"none", "causal", "window", "padding"}


def test_an_exception_of_the_variant_is_a_failure_that_names_its_place():
    """An exception raised by a variant fails the test with its type, text, file and line."""

    @variant("raises")
    def raises(query, key, value, workload):
        raise RuntimeError("no kernel for this")

    result = outcomes(raises, "single-key")[0]
    assert result.status == "failed"
    assert "the callable raised RuntimeError: no kernel for this" in result.reason
    assert "test_suite.py:" in result.reason


@pytest.mark.parametrize(("tier", "status"), [("plain", "skipped"), ("fused", "failed")])
def test_a_plain_variant_that_runs_out_of_memory_is_skipped(tier, status):
    """A plain variant may need more memory than there is, so the test is skipped with the reason; a fused one fails."""

    @variant("large", tier=tier)
    def large(query, key, value, workload):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 GiB")

    results = outcomes(large, "masks")
    assert {result.status for result in results} == {status}
    assert all("out of memory. Tried to allocate 64.00 GiB" in result.reason for result in results)


def test_an_error_in_a_check_fails_only_that_test():
    """An error in a check's own code fails only that test, with a reason that gives the error's file and line."""
    (case, *_) = cases(Tiled(), level="quick", only=["single-key"])

    def broken(subject, workload):
        raise RuntimeError("sizes differ")

    result = run_case(Subject(Tiled()), replace(case, check=replace(case.check, run=broken)))
    assert result.status == "failed"
    assert "the check itself raised RuntimeError: sizes differ" in result.reason
    assert Path(__file__).name in result.reason


def test_single_key_is_skipped_with_more_keys():
    """The single-key check is skipped if the nearest workload that the variant supports has more than one key."""

    class Long(Tiled):
        def unsupported_reason(self, workload, device):
            return None if workload.seq_k % 128 == 0 else "keys in multiples of 128"

    results = list(checks(Long(), level="quick", only=["single-key"]))
    assert results
    assert {result.status for result in results} == {"skipped"}
    assert all("keys" in result.reason for result in results)


def test_a_trait_is_demanded_of_variants_that_claim_it():
    """A trait that does not hold is a failure if the variant claims the trait, and a hint otherwise."""

    class Claims(Tiled):
        traits = frozenset({"nan-safe"})

    assert {each.status for each in outcomes(Tiled(), "nan-safe")} == {"hint"}
    assert {each.status for each in outcomes(Claims(), "nan-safe")} == {"failed"}
    assert {each.status for each in outcomes(Tiled(), "repeatable", "batch-invariant")} == {"passed"}


def test_a_needless_refusal_gets_a_hint():
    """A workload that is declared unsupported but runs correctly gives a hint; a justified refusal passes."""

    class RefusesCausal(Tiled):
        def unsupported_reason(self, workload, device):
            return "causal masks are hard" if workload.mask.kind == "causal" else None

    (result,) = outcomes(RefusesCausal(), "refusals", level="full")
    assert result.status == "hint"
    assert "needless refusal" in result.reason
    assert [each.status for each in outcomes(Plain(), "refusals", level="full")] == ["passed"]


def test_a_variant_that_is_not_softmax_attention_only_keeps_the_contract():
    """The answers of a variant with exact = False are not compared with the reference."""

    class Mean(Tiled):
        exact = False

    assert {each.status for each in outcomes(Mean(), "masks")} == {"skipped"}


def test_hypothesis_shrinks_to_the_smallest_failing_workload(monkeypatch):
    """A bug that needs at least 21 keys is reported for a workload with 21 keys; a correct variant passes."""
    monkeypatch.setattr(hypothesis_fuzz, "EXAMPLES", 20)

    class WrongFrom21Keys(Tiled):
        def scores(self, workload, inputs, query, key, rows, columns):
            scores = super().scores(workload, inputs, query, key, rows, columns)
            return scores * 1.01 if workload.seq_k > 20 else scores

    with pytest.raises(Failed, match=r"k21-.*the smallest that fails|s21-.*the smallest that fails"):
        hypothesis_fuzz.drawn.run(Subject(WrongFrom21Keys()), workload(seq=8))
    assert "workloads drawn" in hypothesis_fuzz.drawn.run(Subject(Tiled(), seed=3), workload(seq=8, dtype="bfloat16"))


def test_the_large_index_check_finds_the_last_key(monkeypatch):
    """The large-index check fails a variant that ignores the last key, and is skipped if too little memory is free."""
    small = workload(batch=1, heads=1, seq_q=2, seq_k=1000, head_dim=128, head_dim_v=8, direction="forward")
    device.large_index.run(Subject(Tiled()), small)

    class LosesLastKey(Tiled):
        def visible(self, workload, inputs, rows, columns):
            return super().visible(workload, inputs, rows, columns) & (columns < workload.seq_k - 1)

    with pytest.raises(Failed, match="32 bits"):
        device.large_index.run(Subject(LosesLastKey()), small)
    monkeypatch.setattr(device, "MEMORY_FACTOR", 1 << 40)
    with pytest.raises(Skipped, match="GiB"):
        device.large_index.run(Subject(Tiled()), small)


def test_running_out_of_memory_skips_the_large_index_check(monkeypatch):
    """Running out of memory skips the check with a reason; any other error is a failure."""
    small = workload(batch=1, heads=1, seq_q=2, seq_k=1000, head_dim=128, head_dim_v=8, direction="forward")

    class NeedsTooMuchMemory(Tiled):
        def attend(self, *arguments):
            torch.empty(1 << 50)

    class Raises(Tiled):
        def attend(self, *arguments):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(Skipped, match="more memory"):
        device.large_index.run(Subject(NeedsTooMuchMemory()), small)
    with pytest.raises(Failed, match="illegal"):
        device.large_index.run(Subject(Raises()), small)


def test_a_costly_variant_is_checked_one_level_lower():
    """A variant for which new shapes are costly is tested one level lower.

    The `full` level runs the `quick` tests, and the `quick` level runs one workload per check and mask kind.
    """

    class Costly(Tiled):
        costly_on = ("cpu",)

    def ids(tested, level):
        return [case.id for case in cases(tested, level=level)]

    assert ids(Costly(), "full") == ids(Tiled(), "quick")
    few = cases(Costly(), level="quick")
    assert len(few) < len(ids(Tiled(), "quick")) / 2
    assert {case.check.name for case in few} == {case.check.name for case in cases(Tiled(), level="quick")}
    kinds = {case.workload.mask.kind for case in few if case.check.name == "masks"}
    assert kinds == {"none", "causal", "causal-top-left", "window", "prefix", "padding", "document"}


class Offers(Plain):
    """Plain attention that returns its log-sum-exp times `factor`, with a gradient of 0 if `detached` is True."""

    tier = "fused"
    factor = 1.0
    detached = False

    def prepare_lse(self, workload, inputs):
        """Return a callable that computes the output and the log-sum-exp with torch."""

        def call():
            scores = inputs.query @ inputs.key.mT * workload.effective_scale
            lse = torch.logsumexp(scores.detach() if self.detached else scores, -1) * self.factor
            if self.detached:
                lse = lse + 0 * scores.sum(-1)
            return torch.softmax(scores, -1) @ inputs.value, lse

        return call


class ForwardOnly(Plain):
    """Plain attention without a backward pass."""

    def unsupported_reason(self, workload, device):
        """Return a reason for workloads that need gradients or are not plain attention."""
        return "forward only" if workload.needs_gradient else super().unsupported_reason(workload, device)


def test_a_variant_without_a_backward_pass_does_not_fail_for_it():
    """If a variant has no backward pass, gradient checks are skipped, and other checks run only the forward pass."""
    only = ["interleaved", "coherent", "fresh-output", "directions", "repeated-calls"]
    results = list(checks(ForwardOnly(), only=only))
    assert {result.status for result in results} == {"passed", "skipped"}
    about_gradients = [result for result in results if result.check in ("interleaved", "coherent")]
    assert {result.status for result in about_gradients} == {"skipped"}


def test_an_offered_log_sum_exp_is_checked_with_its_gradient():
    """A correct log-sum-exp passes, a wrong base or gradient fails, and without a log-sum-exp the check is skipped."""
    plain = workload(seq=40, heads=2)
    log_sum_exp.run(Subject(Offers()), plain)
    wrong = Offers()
    wrong.factor = 1 / math.log(2)
    with pytest.raises(Failed, match="base e"):
        log_sum_exp.run(Subject(wrong), plain)
    detached = Offers()
    detached.detached = True
    with pytest.raises(Failed, match="gradient of query"):
        log_sum_exp.run(Subject(detached), plain)
    with pytest.raises(Skipped):
        log_sum_exp.run(Subject(Plain()), replace(plain))


def test_side_stream_is_skipped_on_a_cpu():
    """On a CPU, the side-stream check is skipped with a reason."""
    (case, *_) = cases(Tiled(), level="quick", only=["side-stream"])
    result = run_case(Subject(Tiled()), case)
    assert (result.status, "CUDA" in result.reason) == ("skipped", True)


def test_the_needle_names_the_key_that_was_read_instead():
    """The reason gives the position, head and batch of the key that was read instead of the right one."""

    @variant("rolled")
    def rolled(query, key, value, workload):
        return torch.softmax(query @ key.mT * workload.effective_scale, -1) @ value.roll(1, 2)

    needle = workload(seq_q=20, seq_k=40, heads=2)
    with pytest.raises(Failed, match=r"value of key \d+ of key head \d exactly; it gave the value of key"):
        CHECKS["needle"].run(Subject(rolled), needle)
