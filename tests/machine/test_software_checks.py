from __future__ import annotations

import subprocess

import pytest

from attnbench.machine import software_checks
from attnbench.machine.finding import Problem
from attnbench.machine.gpu_support import TorchBuild
from attnbench.machine.gpus import list_gpus
from attnbench.machine.software_checks import REMEDIES, software
from fake_nvml import FakeNvml, NVMLError, gpu

LISTED = list_gpus(FakeNvml(gpu(0), DriverVersion="575.57.08", CudaDriverVersion_v2=12090))


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that examines the software beside a GPU, with a torch for the given version of CUDA.

    All libraries are installed. `errors` gives the error of each library that can't be loaded.
    """
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(software_checks, "find_spec", lambda name: name)
    monkeypatch.setattr(software_checks, "compiler_problem", lambda: None)

    def examine(cuda, listed=LISTED, *, load_extensions=True, **errors):
        monkeypatch.setattr(software_checks, "installed_torch", lambda: TorchBuild("2.13.0", cuda))
        monkeypatch.setattr("attnbench.machine.gpu_support.installed_torch", lambda: TorchBuild("2.13.0", cuda))
        monkeypatch.setattr(software_checks, "loading_error", errors.get)
        found = software(tmp_path, listed, load_extensions=load_extensions)
        return {finding.check: finding for finding in found}

    return examine


def test_software_that_fits_is_ok(machine):
    """If the driver is new enough and everything can be loaded, all findings are ok and name the versions."""
    findings = machine("12.6")
    assert set(findings) == {"gpu software", "compiler", *REMEDIES}
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert findings["gpu software"].found == "driver 575.57.08, and torch 2.13.0 is built for CUDA 12.6"


def test_a_driver_that_is_too_old_for_torch_is_a_warning_with_its_remedy(machine):
    """The driver is compared with torch's CUDA, and libraries are not loaded, because they would fail as well."""
    findings = machine("13.0")
    assert findings["gpu software"].level == "warning"
    assert "needs driver 580 or later, but the driver is 575.57.08" in findings["gpu software"].found
    assert findings["gpu software"].remedy.startswith("update the driver")
    assert not set(REMEDIES) & set(findings)


@pytest.mark.parametrize("library", REMEDIES)
def test_a_library_that_cannot_be_loaded_is_a_warning_with_its_remedy(machine, library):
    """The finding of a library that does not fit torch has the loader's error and the library's own remedy."""
    findings = machine("12.6", **{library: "OSError: libcudart.so.12: cannot open shared object file"})
    warning = findings.pop(library)
    assert (warning.level, warning.remedy) == ("warning", REMEDIES[library])
    assert "libcudart.so.12" in warning.found
    assert {finding.level for finding in findings.values()} == {"ok"}


def test_a_missing_compiler_is_a_warning(machine, monkeypatch):
    """What Triton lacks is a finding even at the start of a run, where no library is loaded."""
    monkeypatch.setattr(software_checks, "compiler_problem", lambda: Problem("Triton needs Python.h", "apt install"))
    findings = machine("12.6", load_extensions=False)
    assert (findings["compiler"].level, findings["compiler"].remedy) == ("warning", "apt install")
    assert set(findings) == {"gpu software", "compiler"}


def test_a_machine_without_gpus_has_no_findings(machine):
    """Without a GPU, nothing is said about CUDA, compilers and libraries."""
    assert machine(None, list_gpus(FakeNvml(Init=NVMLError("Library Not Found")))) == {}


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ((0, "a warning\n"), None),
        ((1, "Traceback\nOSError: libcudart.so.12\n"), "OSError: libcudart.so.12"),
        ((1, ""), "no message"),
        ((-11, ""), "the process was ended by signal 11"),
    ],
)
def test_the_error_of_a_library_is_the_last_line_of_its_process(monkeypatch, result, error):
    """A library is loaded in another process, whose failure or crash is the error."""
    code, stderr = result
    done = subprocess.CompletedProcess([], code, "", stderr)
    monkeypatch.setattr(software_checks.subprocess, "run", lambda *_, **__: done)
    assert software_checks.loading_error("xformers") == error


def test_a_library_that_does_not_answer_is_an_error(monkeypatch):
    """A library that does not finish loading is ended, and that is the error."""

    def run(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(software_checks.subprocess, "run", run)
    assert software_checks.loading_error("triton").startswith("no answer within")
