"""The conformance suite as pytest tests: `pytest --pyargs attnbench.conformance --variant my-attn`."""

from __future__ import annotations

import warnings

import pytest

from attnbench.conformance.pytest_plugin import device_under_test, variants_under_test
from attnbench.conformance.subject import Subject
from attnbench.conformance.suite import Case, cases, run_case
from attnbench.errors import AttnbenchError


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Create one test for each combination of variant, check and workload."""
    config = metafunc.config
    level, seed = config.getoption("--level"), config.getoption("--seed")
    try:
        device = device_under_test(config)
        found = [
            pytest.param(Subject(variant, device, seed), case, id=f"{variant.name}-{case.id}")
            for variant in variants_under_test(config)
            for case in cases(variant, device, level)
        ]
    except AttnbenchError as error:
        raise pytest.UsageError(str(error)) from None
    metafunc.parametrize(("subject", "case"), found)


def test_conformance(subject: Subject, case: Case, request: pytest.FixtureRequest) -> None:
    """Test that the variant passes the check on the workload."""
    plugins = request.config.getoption("--plugin")
    result = run_case(subject, case, level=request.config.getoption("--level"), plugin=plugins[0] if plugins else None)
    if result.status == "failed":
        pytest.fail(f"{result.reason}\nremedy: {result.remedy}\nagain:  {result.repro}", pytrace=False)
    if result.status == "skipped":
        pytest.skip(result.reason or "not applicable")
    if result.status == "hint":
        warnings.warn(f"{case.id}: {result.reason}", stacklevel=1)
