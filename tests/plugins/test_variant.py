"""The contract of a variant: which declarations are accepted and which are refused."""

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
    """Names of distributions and a baseline flag fulfil the contract."""
    assert contract_violation(Good()) is None


@pytest.mark.parametrize("packages", ["flash-attn", ("",), (1,), ("flash-attn>=2",), None])
def test_packages_are_names_of_distributions(packages):
    """Anything but a tuple or list of distribution names is refused, and the value is shown."""
    variant = Good()
    variant.packages = packages
    assert f"packages is {packages!r}, expected names of distributions" in contract_violation(variant)


def test_baseline_is_true_or_false():
    """A baseline that is not a boolean is refused, and the value is shown."""
    variant = Good()
    variant.baseline = "sdpa"
    assert "baseline is 'sdpa', expected True or False" in contract_violation(variant)
