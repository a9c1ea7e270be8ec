"""The contract of a variant: which declarations are accepted and which are rejected."""

import pytest

from attnbench import Variant
from attnbench.plugins.variant import contract_violation


class Good(Variant):
    """A variant that fulfils the contract."""

    name = "good"
    packages = ("flash-attn", "numpy")
    baseline = True

    def prepare(self, workload, inputs):
        """Return the callable that is timed."""
        return lambda: inputs.value


def test_a_variant_may_declare_packages_and_be_a_baseline():
    """A variant that declares distributions and is a baseline fulfils the contract."""
    assert contract_violation(Good()) is None


@pytest.mark.parametrize("packages", ["flash-attn", ("",), (1,), ("flash-attn>=2",), None])
def test_packages_are_names_of_distributions(packages):
    """`packages` is rejected unless it is a tuple or list of distribution names, and the message shows the value."""
    variant = Good()
    variant.packages = packages
    assert f"packages is {packages!r}, expected names of distributions" in contract_violation(variant)


@pytest.mark.parametrize("alignment_bytes", [0, -16, 12, 1024, 16.0, True, "16", None])
def test_alignment_is_a_power_of_two(alignment_bytes):
    """`alignment_bytes` is rejected unless it is a power of two that torch's memory has, and the message shows it."""
    variant = Good()
    variant.alignment_bytes = alignment_bytes
    expected = f"alignment_bytes is {alignment_bytes!r}, expected a power of two from 1 to 512"
    assert expected in contract_violation(variant)
    variant.alignment_bytes = 16
    assert contract_violation(variant) is None


def test_baseline_is_true_or_false():
    """A `baseline` that is not a boolean is rejected, and the message shows the value."""
    variant = Good()
    variant.baseline = "sdpa"
    assert "baseline is 'sdpa', expected True or False" in contract_violation(variant)
