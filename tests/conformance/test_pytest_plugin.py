"""Tests of the pytest plugin, which lets authors of variants run the suite in their own repositories."""

from importlib.metadata import entry_points
from types import SimpleNamespace

import pytest
import torch

from attnbench.conformance.pytest_plugin import device_under_test

pytest_plugins = ["pytester"]

PLUGIN = """
from attnbench import hookimpl, variant
import torch

@variant("mine", tier="plain")
def mine(query, key, value, workload):
    group = workload.heads // workload.kv_heads
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    return torch.softmax(query @ key.mT * workload.effective_scale, -1) @ value

@hookimpl
def attnbench_variants():
    return [mine]
"""
INSTALLED = any(each.value == "attnbench.conformance.pytest_plugin" for each in entry_points(group="pytest11"))
RUN = [*([] if INSTALLED else ["-p", "attnbench.conformance.pytest_plugin"]), "-p", "no:cacheprovider"]


@pytest.fixture
def run(pytester):
    """Return a function that runs the suite with pytest in a new process, in a directory that contains my_plugin.py."""
    pytester.makepyfile(my_plugin=PLUGIN)

    def run_with(*arguments):
        return pytester.runpytest_subprocess(*RUN, "--pyargs", "attnbench.conformance", "--level", "quick", *arguments)

    return run_with


def test_each_check_on_each_workload_is_a_test(run):
    """The option -k selects tests by id, and a failure shows the remedy and the command that repeats the test."""
    result = run("--variant", "mine", "--plugin", "my_plugin.py", "-k", "single-key or no-leak", "-v")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 2
    assert outcomes["failed"] >= 4
    result.stdout.fnmatch_lines(["*mine-no-leak-b2-*FAILED*", "remedy: mask with -inf*", "again: *--variant mine*"])


def test_the_suite_runs_under_xdist(run):
    """If pytest-xdist runs the suite, its worker processes receive the suite's options."""
    result = run("--plugin", "my_plugin.py", "-k", "uniform or permutation", "-n", "1")
    assert result.parseoutcomes()["passed"] >= 2


def test_an_unknown_variant_is_a_usage_error(run):
    """A misspelt variant name ends the run with an error that suggests the nearest name."""
    result = run("--variant", "mime", "--plugin", "my_plugin.py")
    assert result.ret in {pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED}
    text = result.stdout.str() + result.stderr.str()
    assert "did you mean 'mine'" in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu", "device 'tpu': expected cpu, cuda or cuda:N"),
        ("cuda:0", "device 'cuda:0': expected one of (torch finds no GPU)"),
        ("cpu:0", "device 'cpu:0': expected one of cpu"),
    ],
)
def test_an_unusable_device_is_a_usage_error(run, monkeypatch, name, message):
    """A device that torch can't use ends the run with a message that says what was expected."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = run("--variant", "mine", "--plugin", "my_plugin.py", "--device", name)
    assert result.ret in {pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED}
    assert message in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_gpus_are_accepted_with_and_without_a_number(monkeypatch, name):
    """On a machine with two GPUs, both `cuda` and `cuda:1` are accepted, and become torch's current device."""
    current = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    config = SimpleNamespace(getoption={"--device": name}.__getitem__)
    assert device_under_test(config) == name
    assert current == [name]


def test_other_runs_of_pytest_get_no_options(pytester):
    """If the suite is not on the command line, its options don't exist, so a conftest can define its own --device."""
    pytester.makeconftest("def pytest_addoption(parser):\n    parser.addoption('--device')\n")
    pytester.makepyfile("def test_it(pytestconfig):\n    assert pytestconfig.getoption('--device') == 'tpu'\n")
    pytester.runpytest_subprocess(*RUN, "--device", "tpu").assert_outcomes(passed=1)
