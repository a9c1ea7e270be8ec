"""Mutation tests of the suite: each wrong variant is caught by a check that the kill table names for it."""

import sys
from pathlib import Path

import pytest
import torch

from attnbench import Mask, Workload
from attnbench.conformance.suite import CHECKS
from attnbench.tensors.inputs import make_inputs

sys.path.insert(0, str(Path(__file__).parents[1] / "mutants"))
from kill_table import catching, load, mutant_files, read_table

KILLED = read_table()


def test_the_table_lists_every_mutant():
    """The kill table has one row per mutant, and each row names only existing checks."""
    assert sorted(KILLED) == sorted(path.stem.replace("_", "-") for path in mutant_files())
    assert len(KILLED) >= 33
    assert all(check in CHECKS for _, checks in KILLED.values() for check in checks)


@pytest.mark.parametrize("path", mutant_files(), ids=lambda path: path.stem)
def test_a_mutant_is_caught(path):
    """The first check that the kill table names for a mutant catches it."""
    _, mutant = load(path)
    level, (check, *_) = KILLED[mutant.name]
    assert catching(mutant, level, only=[check]) == [check]


# Each workload takes other branches of the mutants: six heads are not a power of two, for example.
BRANCHES = [
    Workload(batch=1, heads=6, kv_heads=2, seq_q=70, head_dim=16, dropout=0.25, direction="forward_backward"),
    Workload(batch=1, heads=6, seq_q=70, head_dim=16, alibi=True, softcap=5.0, direction="forward_backward"),
    *(
        Workload(batch=9, heads=2, seq_q=70, head_dim=16, mask=Mask.parse(mask), direction="forward_backward")
        for mask in ("causal", "padding", "document", "window:80:0", "prefix:20")
    ),
    Workload(batch=1, heads=6, kv_heads=2, seq_q=1, seq_k=70, head_dim=16, dtype="float16"),
]


@pytest.mark.parametrize("path", mutant_files(), ids=lambda path: path.stem)
def test_a_mutant_stays_on_the_device_of_its_inputs(path):
    """A mutant makes all tensors on the device of its inputs, so that the suite can be tested on a GPU too."""
    _, mutant = load(path)
    for workload in BRANCHES:
        inputs = make_inputs(workload, "cpu")
        with torch.device("meta"):  # a tensor that is made without a device can't be combined with the inputs
            output = mutant.prepare(workload, inputs)()
            if workload.needs_gradient and mutant.name != "inputs-mutated":  # this mutant changes what backward needs
                torch.autograd.grad(output, inputs.leaves, inputs.grad_output)
        assert output.device == inputs.query.device
