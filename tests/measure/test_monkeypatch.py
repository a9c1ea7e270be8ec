from __future__ import annotations

import builtins

import pytest
import torch

from attnbench.conformance import gate
from attnbench.measure.anticheat.monkeypatch import MonkeypatchDetector


@pytest.fixture
def detector():
    """Return a detector that has seen everything as it is."""
    return MonkeypatchDetector()


def test_what_stays_is_no_finding(detector):
    """Nothing is replaced while nothing changes, and a new name beside the old ones is no change."""
    torch.an_extra_name = print
    try:
        assert detector.replaced() == []
    finally:
        del torch.an_extra_name


@pytest.mark.parametrize(
    ("owner", "name", "told"),
    [
        (gate.Gate, "_judge", "attnbench.conformance.gate.Gate._judge"),
        (gate, "compare", "attnbench.conformance.gate.compare"),
        (torch.Tensor, "norm", "torch.Tensor.norm"),
        (torch, "isfinite", "torch.isfinite"),
        (builtins, "max", "builtins.max"),
    ],
    ids=str,
)
def test_a_function_that_was_replaced_is_named(detector, monkeypatch, owner, name, told):
    """Methods and functions of the harness, of torch and of Python are all looked after."""
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, lambda *_, **__: 0)
        replaced = detector.replaced()
    assert replaced == [f"patched function: {told}"]
    assert detector.replaced() == []


def test_a_function_whose_code_was_replaced_is_named(detector, monkeypatch):
    """The same function object with other code in it is no longer the same function."""
    monkeypatch.setattr(gate._verdict, "__code__", (lambda comparison, *, passed=None: None).__code__)
    assert detector.replaced() == ["patched function: attnbench.conformance.gate._verdict"]
