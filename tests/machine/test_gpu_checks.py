from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from attnbench.machine.gpu_checks import gpus
from attnbench.machine.gpus import list_gpus
from fake_nvml import FakeNvml, NVMLError, gpu, split


def examined(*devices, **system):
    """Return the findings on the GPUs of a fake NVML."""
    nvml = FakeNvml(*devices, **system)
    return gpus(list_gpus(nvml), nvml)


def healthy(**answers):
    """Return a GPU without faults, except for the given answers."""
    return gpu(
        0,
        **{
            "PersistenceMode": 1, "EccMode": (1, 1), "TotalEccErrors": 0, "MigMode": (0, 0), "Temperature": 40,
            "CurrentClocksEventReasons": 0, "ComputeRunningProcesses": [], "ApplicationsClock": 1980,
            "MaxClockInfo": 1980, "ComputeMode": 0, **answers,
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("persistence", {"PersistenceMode": 0}),
        ("compute mode", {"ComputeMode": 3}),
        ("ECC", {"TotalEccErrors": 3}),
        ("throttling", {"CurrentClocksEventReasons": 0x4 | 0x40}),
        ("co-tenants", {"ComputeRunningProcesses": [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=7)]}),
        ("temperature", {"Temperature": 91}),
        ("clocks", {"ApplicationsClock": 1200}),
    ],
)
def test_each_fault_of_a_gpu_gives_one_warning(name, answers):
    """On a GPU with one fault, one check gives a warning with a remedy and all other checks are ok."""
    findings = {finding.check.removeprefix("gpu 0 "): finding for finding in examined(healthy(**answers))}
    warning = findings.pop(name)
    assert (warning.level, bool(warning.remedy)) == ("warning", True)
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert {finding.level for finding in examined(healthy())} == {"ok"}


def test_the_instances_of_a_gpu_in_mig_mode_share_one_warning():
    """A GPU in MIG mode is examined once, and the warning says that its instances share bandwidth and power."""
    instances = [{**gpu(1), "UUID": f"MIG-{number}"} for number in range(2)]
    findings = examined({**healthy(), **split(0, *instances)})
    assert [finding.level for finding in findings if finding.check == "gpu 0 MIG"] == ["warning"]


def test_a_failed_check_does_not_hide_the_others():
    """If a GPU does not support a query, only the check that needs this query is unknown."""
    findings = examined(healthy(EccMode=NVMLError("Not Supported")))
    assert [finding.check for finding in findings if finding.level == "unknown"] == ["gpu 0 ECC"]


def test_a_gpu_that_cannot_be_used_is_named_beside_the_others():
    """A GPU of another user is unknown, and one that a setting makes unusable is a warning with the remedy."""
    findings = examined(healthy(), {"Handle": NVMLError("Insufficient Permissions")}, gpu(2, ComputeMode=2))
    by_name = {finding.check: finding for finding in findings}
    assert (by_name["gpu 1"].level, by_name["gpu 1"].found) == ("unknown", "can't be used: Insufficient Permissions")
    assert by_name["gpu 2"].level == "warning"
    assert by_name["gpu 2"].remedy == "sudo nvidia-smi -i 2 -c DEFAULT"
    assert by_name["gpu 0 temperature"].level == "ok"


def test_without_nvml_no_gpu_can_be_examined():
    """If NVML can't be used, a single finding says so."""
    (finding,) = examined(gpu(0), Init=NVMLError("Driver Not Loaded"))
    assert (finding.level, "Driver Not Loaded" in finding.found) == ("unknown", True)
