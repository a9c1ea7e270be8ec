from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.machine import torch_choice
from attnbench.machine.torch_choice import CUDA_12_INDEX, Choice, choose, pip_arguments

ROOT = Path(__file__).parents[2]
EXTRAS = ["report", "xformers", "pytest"]
CONSTRAINTS = "# versions\nsympy==1.14.0\ntorch==2.13.0\ntriton==3.7.1\n"


def installed_for(smi):
    """Return `12`, `13` or `default` for the build of torch that is chosen, and whether xformers is installed."""
    choice = choose(smi)
    arguments = " ".join(pip_arguments(choice, EXTRAS, CONSTRAINTS))
    build = "12" if "+cu126" in arguments else "13" if "CUDA 13" in choice.reason else "default"
    return build, "xformers" in arguments


@pytest.mark.parametrize(
    ("smi", "build", "xformers"),
    [
        (None, "default", True),
        ("", "default", True),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver\n", "default", True),
        ("470.82.01, 8.0\n", "default", True),
        ("525.60.13, 8.0\n", "12", True),
        ("575.57.08, 9.0\n575.57.08, 9.0\n", "12", True),
        ("580.65.06, 9.0\n", "13", False),
        ("590.44.01, 8.9\n", "13", False),
        ("580.65.06, 7.0\n", "12", True),  # CUDA 13 does not support Volta
        ("575.57.08, 12.0\n", "13", False),  # CUDA 12.6 does not support Blackwell
        ("580.65.06, 10.0\n580.65.06, 7.0\n", "13", False),
        ("575", "12", True),
        ("580.65.06", "13", False),
    ],
)
def test_the_build_of_torch_fits_driver_and_gpu(smi, build, xformers):
    """Drivers before 580 and old GPUs get a build for CUDA 12.6, and xformers is only installed where it can load."""
    assert installed_for(smi) == (build, xformers)


def test_the_reason_is_one_line_with_the_driver_and_what_is_left_out():
    """The line for the user names the driver, what is left out, and what is too old."""
    assert choose("580.65.06, 9.0\n").reason == (
        "driver 580.65.06: torch for CUDA 13; without xformers, which was built for CUDA 12"
    )
    assert "needs driver 580 or later: update it" in choose("575.57.08, 12.0\n").reason
    assert "driver 470.82 is too old for every CUDA build" in choose("470.82, 8.0").reason


def test_the_build_for_cuda_12_has_the_pinned_version():
    """The arguments name PyTorch's own index and the version in constraints.txt, built for CUDA 12.6."""
    arguments = pip_arguments(Choice("", cuda_12=True), EXTRAS, CONSTRAINTS)
    assert arguments == [
        "-e", ".[report,xformers,pytest]", "--extra-index-url", CUDA_12_INDEX, "torch==2.13.0+cu126",
    ]  # fmt: skip
    assert pip_arguments(Choice(""), EXTRAS, CONSTRAINTS) == ["-e", ".[report,xformers,pytest]"]
    pinned = pip_arguments(Choice("", cuda_12=True), EXTRAS, (ROOT / "constraints.txt").read_text())[-1]
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+\+cu126", pinned)


def run_make(folder, monkeypatch, smi, *variables):
    """Run make's recipe that installs the packages, with a fake nvidia-smi and a fake pip. Return what it printed.

    If `smi` is None, there is no nvidia-smi.
    """
    programs = folder / "programs"
    programs.mkdir()
    if smi is not None:
        (programs / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{smi}'\n")
        (programs / "nvidia-smi").chmod(0o755)
    environment = folder / "venv" / "bin"
    environment.mkdir(parents=True)
    python = environment / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -m ] && {{ echo "$@"; exit; }}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    command = ["make", "-C", str(ROOT), f"VENV={folder / 'venv'}", "PYTHON=true", *variables]
    command.append(str(folder / "venv" / "installed"))
    return subprocess.run(command, capture_output=True, text=True, check=True)


def installation(done):
    """Return the arguments of the last call of pip."""
    return [line for line in done.stdout.splitlines() if line.startswith("-m pip")][-1]


@pytest.mark.parametrize(
    ("smi", "installed"),
    [
        (None, "-e .[report,xformers,pytest]"),
        (r"575.57.08, 9.0\n", f"-e .[report,xformers,pytest] --extra-index-url {CUDA_12_INDEX} torch=={{torch}}+cu126"),
        (r"580.65.06, 9.0\n", "-e .[report,pytest]"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="the fake programs are shell scripts")
def test_make_installs_what_fits_the_driver(tmp_path, monkeypatch, smi, installed):
    """`make` asks nvidia-smi, says in one line what it chose, and passes it to pip with the pinned versions."""
    done = run_make(tmp_path, monkeypatch, smi)
    torch = re.search(r"^torch==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert (
        installation(done) == f"-m pip install --quiet --no-compile -c constraints.txt {installed.format(torch=torch)}"
    )
    assert done.stderr == f"{choose(None if smi is None else smi.replace(chr(92) + 'n', chr(10))).reason}\n"


@pytest.mark.parametrize(("driver", "without"), [("570", ()), ("580.1", ("xformers",))])
def test_make_takes_the_driver_of_another_machine(tmp_path, monkeypatch, driver, without):
    """With DRIVER, as in the build of a container image, the driver of this machine does not matter."""
    done = run_make(tmp_path, monkeypatch, r"470.1, 8.0\n", f"DRIVER={driver}")
    assert done.stderr.startswith(f"driver {driver}: torch for CUDA")
    assert ("xformers" in installation(done)) == (not without)


def test_a_failing_nvidia_smi_is_no_gpu(monkeypatch):
    """If nvidia-smi fails or is missing, the machine counts as one without a GPU."""
    monkeypatch.setattr(torch_choice, "QUERY", ("false",))
    assert torch_choice.query() is None
    monkeypatch.setattr(torch_choice, "QUERY", ("no-such-program-here",))
    assert torch_choice.query() is None
