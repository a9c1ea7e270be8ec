from __future__ import annotations

import builtins

import pytest
import torch

from attnbench.conformance import gate
from attnbench.measure.anticheat.monkeypatch import MonkeypatchDetector


@pytest.fixture
def detector():
    """Return a detector that watches all modules loaded so far."""
    return MonkeypatchDetector()


def test_unchanged_functions_are_no_finding(detector):
    """If no function was replaced, there is no finding, even if a new name was added to a watched module."""
    torch.an_extra_name = print
    try:
        assert detector.replaced() == []
    finally:
        del torch.an_extra_name


@pytest.mark.parametrize(
    ("owner", "name", "named"),
    [
        (gate.Gate, "_judge", "attnbench.conformance.gate.Gate._judge"),
        (gate, "compare", "attnbench.conformance.gate.compare"),
        (torch.Tensor, "norm", "torch.Tensor.norm"),
        (torch, "isfinite", "torch.isfinite"),
        (builtins, "max", "builtins.max"),
    ],
    ids=str,
)
def test_a_function_that_was_replaced_is_named(detector, monkeypatch, owner, name, named):
    """Replacing a function or method of the harness, torch or Python causes a finding with its full name."""
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, lambda *_, **__: 0)
        replaced = detector.replaced()
    assert replaced == [f"patched function: {named}"]
    assert detector.replaced() == []


def test_a_function_whose_code_was_replaced_is_named(detector, monkeypatch):
    """Replacing only the code of a function object also causes a finding."""
    monkeypatch.setattr(gate._verdict, "__code__", (lambda comparison, *, passed=None: None).__code__)
    assert detector.replaced() == ["patched function: attnbench.conformance.gate._verdict"]
