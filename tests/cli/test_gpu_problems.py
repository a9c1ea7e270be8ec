"""A machine with a GPU that can't be used: the commands say so, and do not measure the CPU without being asked."""

import json
import sys
from pathlib import Path

import pytest

from attnbench.cli import main
from attnbench.machine import gpus
from fake_nvml import FakeNvml, NVMLError, gpu


@pytest.fixture
def attnbench(monkeypatch, tmp_path, capsys):
    """Return a function that runs attnbench beside a GPU and a CPU build of torch, and returns exit code and output."""
    denied = {"Handle": NVMLError("Insufficient Permissions")}
    monkeypatch.setattr(gpus, "pynvml", FakeNvml(gpu(0, "H100", ComputeMode=3), denied))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(command):
        monkeypatch.setattr(sys, "argv", ["attnbench", *command.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("command", ["run -v naive --seq 16", "run -d cuda", "check naive", "study heads"])
def test_the_first_line_is_the_problem_of_the_gpu_with_its_remedy(attnbench, command):
    """The exit code is 2, and the only line of output says what is wrong and how to measure anyway."""
    code, out, err = attnbench(command)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("attnbench: torch ")
    assert "is not built for CUDA: install a CUDA build" in err
    assert err.endswith("; -d cpu measures the CPU instead\n")
    assert not list(Path().glob("results/*"))


def test_with_the_cpu_as_the_device_a_run_starts(attnbench):
    """With `-d cpu`, the problem of the GPU does not matter."""
    code, out, _ = attnbench("run -v naive --seq 16 --heads 2 --head-dim 8 -d cpu --dry-run")
    assert code in {0, None}
    assert "naive" in out


@pytest.mark.parametrize("command", ["devices", "list devices"])
def test_gpus_that_cannot_be_used_are_listed_with_the_reason(attnbench, command):
    """The list of devices has a GPU that torch can't use and a GPU without permission, each with its problem."""
    code, out, _ = attnbench(f"{command} --json")
    rows = json.loads(out)
    assert code in {0, None}
    assert (rows[0]["device"], rows[0]["model"]) == ("cuda:0", "H100")
    assert "is not built for CUDA" in rows[0]["problem"]
    assert {"device": None, "model": "GPU 1", "problem": "Insufficient Permissions"}.items() <= rows[-1].items()
    assert all(row["problem"] is None for row in rows if str(row["device"]).startswith("cpu"))
