"""The command `pytest --pyargs attnbench.benchmarks`, which runs cells as tests for pytest-benchmark."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = ("--heads", "1", "--head-dim", "8", "--seq", "16", "--benchmark-max-time=0.01", "--benchmark-min-rounds=3")
PLUGIN = '''
"""Three variants: one that can be slowed down, one that is wrong, and one that supports nothing."""

import os
import time

from attnbench import Variant, hookimpl


class Exact(Variant):
    name = "as-asked"

    def prepare(self, workload, inputs):
        pause = float(os.environ.get("PAUSE", "0"))

        def attention():
            time.sleep(pause)
            scores = inputs.query @ inputs.key.transpose(-1, -2) * workload.effective_scale
            return scores.softmax(-1) @ inputs.value

        return attention


class Wrong(Variant):
    name = "wrong"

    def prepare(self, workload, inputs):
        return lambda: inputs.value * 1.0


class Unable(Variant):
    name = "unable"

    def unsupported_reason(self, workload, device):
        return "has no kernel"

    def prepare(self, workload, inputs):
        raise AssertionError("prepare was called for an unsupported workload")


@hookimpl
def attnbench_variants():
    return [Exact(), Wrong(), Unable()]
'''


def run_pytest(folder, *options, **environment):
    """Run the benchmarks in a folder that has no pytest configuration, and return the finished process."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "attnbench.benchmarks", *options]
    # Leave out environment variables that the outer pytest and its plugins have set.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**outside, **environment}
    )


def saved(folder):
    """Return a list with the benchmarks of each saved file, sorted by file name."""
    files = sorted(Path(folder).glob(".benchmarks/*/*.json"))
    return [json.loads(file.read_text(encoding="utf-8"))["benchmarks"] for file in files]


@pytest.fixture
def plugin(tmp_path):
    """Return the path of a plugin with a correct, a wrong and an unsupported variant."""
    path = tmp_path / "outcomes.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return str(path)


def test_only_right_answers_are_timed_and_saved(tmp_path, plugin):
    """A correct variant is timed and saved, a wrong one fails and is not saved, and an unsupported one is skipped."""
    done = run_pytest(
        tmp_path, *TINY, "--plugin", plugin, "--variant", "as-asked,wrong,unable", "--direction",
        "forward,backward", "--benchmark-autosave", "-rs",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 2 passed, 2 skipped" in done.stdout
    assert "has no kernel" in done.stdout
    (benchmarks,) = saved(tmp_path)
    assert sorted(benchmark["params"]["workload"] for benchmark in benchmarks) == [
        "b1-h1-s16-d8-float32-none-backward",
        "b1-h1-s16-d8-float32-none-forward",
    ]
    for benchmark in benchmarks:
        assert benchmark["params"]["variant"] == "as-asked"
        assert benchmark["stats"]["rounds"] >= 3
        facts = benchmark["extra_info"]
        assert facts["flops"] == (2 if facts["workload_direction"] == "forward" else 5) * 2 * 16 * 16 * 8
        assert facts["tflops"] == pytest.approx(facts["flops"] / benchmark["stats"]["median"] / 1e12)
        assert 0 <= facts["worst_ratio"] <= 1


def test_a_time_that_others_disturbed_is_marked(tmp_path, plugin):
    """If others had the cores while a variant was timed, a warning says so, and the saved benchmark has its text."""
    (tmp_path / "busy.py").write_text(
        "from attnbench.machine.telemetry import CpuTelemetry\n"
        "CpuTelemetry.read = lambda self: {'throttle': ['foreign_load']}\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    options = ("-p", "busy", "--plugin", plugin, "--variant", "as-asked", "--benchmark-autosave")
    done = run_pytest(tmp_path, *TINY, *options, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = "other processes used the cores while as-asked was timed; stop them and run again"
    assert f"RuntimeWarning: no verdict: {expected}" in done.stdout
    ((benchmark,),) = saved(tmp_path)
    assert benchmark["extra_info"]["disturbed"] == expected


def test_compare_fail_fails_on_a_slow_down(tmp_path, plugin):
    """`--benchmark-compare-fail` fails if a cell has become slower, and `pytest-benchmark compare` shows both runs."""
    options = (*TINY, "--plugin", plugin, "--variant", "as-asked", "--benchmark-autosave")
    assert run_pytest(tmp_path, *options).returncode == 0
    slower = run_pytest(tmp_path, *options, "--benchmark-compare", "--benchmark-compare-fail=min:100%", PAUSE="0.1")
    assert slower.returncode != 0
    assert "Performance has regressed" in slower.stdout + slower.stderr
    compared = subprocess.run(
        [str(Path(sys.executable).parent / "pytest-benchmark"), "compare", "--group-by=param:variant"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "variant=as-asked" in compared.stdout
    assert compared.stdout.count("test_attention[as-asked-") >= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--variant", "spda"), "unknown variant 'spda': did you mean 'sdpa'?"),
        (("--seq", "many"), "'many': expected whole numbers"),
        (("--device", "cpu:0"), "expected cpu or cuda:N"),
    ],
)
def test_bad_options_are_one_line(tmp_path, options, message):
    """An invalid option ends the session without a traceback, and a message says what was expected."""
    done = run_pytest(tmp_path, *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


LOSES_GPU = """
import torch
from attnbench import Variant, hookimpl

class LosesGpu(Variant):
    name = "loses-gpu"

    def prepare(self, workload, inputs):
        torch.cuda.is_initialized = lambda: True
        torch.cuda.synchronize = lambda *_: refuse()
        return refuse

def refuse():
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

@hookimpl
def attnbench_variants():
    return [LosesGpu()]
"""


def test_no_cell_is_timed_on_a_lost_gpu(tmp_path):
    """After a CUDA error, the remaining cells are skipped with the reason, because the process can't be replaced."""
    (tmp_path / "loses_gpu.py").write_text(LOSES_GPU)
    sizes = ("--heads", "1", "--head-dim", "8", "--seq", "16,32")
    done = run_pytest(tmp_path, *sizes, "--device", "cpu", "--plugin", "loses_gpu.py", "--variant", "loses-gpu", "-rs")
    assert "1 failed, 1 skipped" in done.stdout
    assert "an earlier test left the GPU unusable in this process: RuntimeError: CUDA error" in done.stdout


def test_other_sessions_have_no_options(pytester):
    """In pytest sessions without these benchmarks, no options are added, so a test suite can define its own `--seq`."""
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--seq', type=int)")
    pytester.makepyfile("def test_own(request): assert request.config.getoption('--seq') == 3")
    pytester.runpytest_subprocess("--seq", "3").assert_outcomes(passed=1)
    assert "--kv-heads" not in pytester.runpytest_subprocess("--help").stdout.str()
