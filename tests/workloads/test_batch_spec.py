"""Batch specs, which use vLLM's notation."""

from __future__ import annotations

import pytest

from attnbench.errors import WorkloadError
from attnbench.workloads.batch_spec import Requests, parse_batch_spec


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        ("q2k", (Requests(1, 2048, 2048),)),
        ("q1s1k", (Requests(1, 1, 1024),)),
        ("8q1kv1k", (Requests(8, 1, 1024),)),
        ("q1ks2k", (Requests(1, 1024, 2048),)),
        ("2q2k_32q1s1k", (Requests(2, 2048, 2048), Requests(32, 1, 1024))),
    ],
)
def test_parse(text, requests):
    """Specs of prefill, decode, extend and mixed batches are parsed as in vLLM."""
    assert parse_batch_spec(text) == requests


@pytest.mark.parametrize("text", ["", "q", "2q2k_", "s1k", "q2m", "q0", "0q1", "q4s2", "q-1", "q1s0"])
def test_invalid_specs_are_refused(text):
    """A spec is rejected if it is malformed, or if a query is longer than its sequence."""
    with pytest.raises(WorkloadError, match=f"batch spec '{text}': .*expected"):
        parse_batch_spec(text)
