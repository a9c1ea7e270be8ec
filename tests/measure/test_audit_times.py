from __future__ import annotations

import itertools
import random
import re

import pytest
import torch
from simulated_audits import MACHINES, verdicts

from attnbench import Workload
from attnbench.measure.anticheat.audit import Audit, change_content
from attnbench.measure.anticheat.audit_times import AuditTimes, doubts, second_look
from attnbench.tensors.inputs import make_inputs

WORKLOAD = Workload(heads=2, seq_q=16, head_dim=8)
HONEST = AuditTimes(50_000.0, 50_000.0, 40_000.0)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_honest_calls_are_never_accused(machine):
    """No honest cell of short calls gets a finding, beside noise, drift, bursts and load, and with cold caches."""
    assert verdicts(machine, 2000) == {"ok": 2000, "suspect": 0, "error": 0}


@pytest.mark.parametrize(("kept", "expected"), [(0.33, "error"), (0.5, "error"), (0.7, "error"), (0.8, "suspect")])
def test_a_cache_that_idles_is_found(kept, expected):
    """On a quiet machine, a cache in calls of 20 us or more is found even if it idles for 80% of the work's time."""
    found = verdicts(MACHINES[0], 40, kept, shortest_ns=2e4)
    assert found["ok"] == 0
    assert max(found, key=found.get) == expected, found


def test_chance_is_not_doubted_twice():
    """A cell in which fresh calls were slower by chance is cleared after a few further blocks."""
    by_chance = AuditTimes(80_000.0, 45_000.0, 40_000.0)
    claims = doubts([by_chance] * 8)
    assert claims
    looked = []
    assert second_look(claims, lambda: looked.append(1) or HONEST) is None
    assert len(looked) <= 5


@pytest.mark.parametrize(
    ("times", "certain", "text"),
    [
        (AuditTimes(100_000.0, 45_000.0, 40_000.0), True, "cached output: calls on changed inputs took 100.0 us"),
        (AuditTimes(60_000.0, 50_000.0, 40_000.0), False, "repeats on unchanged inputs 50.0 us .* To check, read"),
        (AuditTimes(400_000.0, 400_000.0, 40_000.0), False, "Audited calls took 400.0 us, but 90% .* To check, read"),
    ],
)
def test_a_finding_says_what_was_measured(times, certain, text):
    """A finding gives the measured times, and if an honest explanation is possible, it says how to check it."""
    finding = second_look(doubts([times] * 2), lambda: times)
    assert finding.certain is certain
    assert re.search(text, finding.text), finding.text


@pytest.mark.parametrize("times", [HONEST, AuditTimes(53_000.0, 50_000.0, 40_000.0), AuditTimes(9_000, 8_000, 3_000.0)])
def test_small_differences_raise_no_doubt(times):
    """Fresh calls that are slower by a few percent or by less than 1 us are not doubted."""
    assert doubts([times] * 50) == []


def test_changed_and_restored_content():
    """`change_content` changes each input tensor, and with `restore` it writes the same content again."""
    inputs = make_inputs(WORKLOAD, "cpu")
    generator = random.Random(0)  # noqa: S311 - a seeded choice, not a secret
    before = [tensor.detach().clone() for tensor in inputs.leaves]
    versions = [tensor._version for tensor in inputs.leaves]
    change_content(inputs, generator, restore=True)
    assert all(torch.equal(*pair) for pair in zip(before, inputs.leaves, strict=True))
    for _ in range(200):
        change_content(inputs, generator)
        assert not any(torch.equal(*pair) for pair in zip(before, inputs.leaves, strict=True))
        before = [tensor.detach().clone() for tensor in inputs.leaves]
    assert versions == [tensor._version for tensor in inputs.leaves]


def test_changing_and_restoring_are_the_same_work(monkeypatch):
    """Both kinds of audited calls are prepared by the same operations on tensors of the same shapes."""
    inputs, rolls = make_inputs(WORKLOAD, "cpu"), []
    roll = torch.Tensor.roll
    monkeypatch.setattr(
        torch.Tensor, "roll", lambda tensor, *given: (rolls.append(tensor.shape), roll(tensor, *given))[1]
    )
    change_content(inputs, random.Random(0))  # noqa: S311 - a seeded choice, not a secret
    changed = rolls[:]
    rolls.clear()
    change_content(inputs, random.Random(0), restore=True)  # noqa: S311 - a seeded choice, not a secret
    assert changed == rolls
    assert len(rolls) == 6


def test_the_order_of_audited_calls_is_a_fair_coin():
    """The audited call comes before the repeat in about half of the blocks, in an order that varies."""
    audit = Audit(make_inputs(WORKLOAD, "cpu"), "seed", lambda *_: None)
    orders = [audit.draw_order() for _ in range(1000)]
    assert 440 < sum(orders) < 560
    assert 440 < sum(first != second for first, second in itertools.pairwise(orders)) < 560
