"""`attnbench check`: results, exit code, JSON, and variants that crash their process."""

import json

import pytest

from command_line import attnbench

PLUGIN = """
import os
from attnbench import hookimpl, variant
import torch

@variant("right", tier="plain")
def right(query, key, value, workload):
    group = workload.heads // workload.kv_heads
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    return torch.softmax(query @ key.mT * workload.effective_scale, -1) @ value

@variant("wrong", tier="plain")
def wrong(query, key, value, workload):
    return right.function(2 * query, key, value, workload) + 1e-3 * key.sum()

@variant("crashes")
def crashes(query, key, value, workload):
    os._exit(3)

@hookimpl
def attnbench_variants():
    return [right, wrong, crashes]
"""


@pytest.fixture
def check(tmp_path):
    """Return a function that runs `attnbench check` on variants of PLUGIN."""
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)

    def run(*arguments):
        return attnbench("check", "--plugin", str(plugin), "--quick", *arguments)

    return run


def test_failures_come_with_remedy_and_command_and_exit_1(check):
    """Failures of wrong and crashing variants come with a remedy and a rerun command, and all variants are checked."""
    done = check("--only", "repeated-heads", "--json")
    results = json.loads(done.stdout)
    found = {name: {each["status"] for each in results if each["variant"] == name} for name in ("right", "wrong")}
    assert done.returncode == 1
    assert found == {"right": {"passed"}, "wrong": {"failed"}}
    crashed = [each for each in results if each["variant"] == "crashes"]
    assert {each["status"] for each in crashed} == {"failed"}
    for each in results:
        if each["status"] == "failed":
            assert each["remedy"]
            assert each["repro"].startswith("pytest --pyargs attnbench.conformance --variant ")


def test_a_right_variant_exits_0_with_one_line(check):
    """If the output is piped, a variant that passes gets one line with its tier and counts."""
    done = check("right", "--only", "repeated-heads")
    assert done.returncode == 0
    assert done.stdout.startswith("right (plain): 1 passed in ")
