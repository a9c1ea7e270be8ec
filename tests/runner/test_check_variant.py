"""Checks of a variant in worker processes, which are replaced after crashes and CUDA errors."""

import os

import pytest

from attnbench.plan.catalog import read_catalog
from attnbench.plan.devices import choose_devices
from attnbench.runner import check_variant as module
from attnbench.runner.check_variant import check_variant

PLUGIN = """
import os
from attnbench import Variant, hookimpl

class Faults(Variant):
    '''Textbook attention that causes a CUDA error whenever there are as many queries as keys.'''

    name = "faults"
    tier = "plain"

    def prepare(self, workload, inputs):
        group = workload.heads // workload.kv_heads

        def call():
            with open(os.environ["CALLS"], "a") as calls:
                print(workload.id, os.getpid(), file=calls)
            if workload.seq_q == workload.seq_k:
                raise RuntimeError("CUDA error: misaligned address")
            key, value = inputs.key.repeat_interleave(group, 1), inputs.value.repeat_interleave(group, 1)
            return (inputs.query @ key.mT * workload.effective_scale).softmax(-1) @ value

        return call

@hookimpl
def attnbench_variants():
    return [Faults()]
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Return a function that runs checks on the variant, and returns the results and the calls with process ids."""
    (tmp_path / "faults.py").write_text(PLUGIN)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry = read_catalog([str(tmp_path / "faults.py")]).variants["faults"]

    def run(*names):
        results = []
        (device,) = choose_devices(["cpu"])
        check_variant(entry, device, level="quick", timeout_s=100, on_result=results.append, only=names)
        return results, [line.split() for line in (tmp_path / "calls").read_text().splitlines()]

    return run


def test_a_new_process_runs_the_remaining_tests(check):
    """After a test with a CUDA error, the remaining tests run in a new process, and the failure says so."""
    results, calls = check("uniform", "single-key")
    failed = [each for each in results if each["status"] == "failed"]
    passed = [each for each in results if each["status"] == "passed"]
    assert failed
    assert passed
    for each in failed:
        assert "RuntimeError: CUDA error: misaligned address" in each["reason"]
        assert each["reason"].endswith("The process was ended, and further tests run in a new one.")
    pids_of_faults = {pid for workload, pid in calls if workload in {each["workload_id"] for each in failed}}
    assert len(pids_of_faults) == len(failed)
    assert str(os.getpid()) not in {pid for _, pid in calls}
    last_faulty = max(index for index, each in enumerate(results) if each["status"] == "failed")
    assert last_faulty < len(results) - 1
    assert calls[-1][1] not in pids_of_faults


def test_a_variant_that_causes_many_cuda_errors_is_given_up(check, monkeypatch):
    """After a limited number of processes, the remaining tests are not run, and one failure says so."""
    monkeypatch.setattr(module, "MAX_CRASHES", 1)
    results, _ = check("uniform", "single-key")
    assert results[-1]["reason"] == "not run, because the variant crashed or caused a CUDA error in 1 tests"
