from __future__ import annotations

import pytest
from economy import table


@pytest.mark.parametrize("cost_ns", [1e5, 1e6])
def test_the_stopping_rule_needs_few_samples(cost_ns):
    """For a precision of 0.5%, the stopping rule needs at most half as many samples as do_bench or pytest-benchmark."""
    _, (to_do_bench, to_pytest_benchmark, _, default_to_pytest_benchmark) = table(cost_ns, seeds=6)
    assert to_do_bench <= 0.5
    assert to_pytest_benchmark <= 0.5
    assert default_to_pytest_benchmark <= 0.5
