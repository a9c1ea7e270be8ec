from __future__ import annotations

import os
import warnings
from types import SimpleNamespace

import pytest

from attnbench.machine import telemetry
from attnbench.machine.nvml import NvmlTelemetry


class NVMLError(Exception):
    """The error that the fake NVML raises."""


class FakeNvml:
    """A fake NVML that returns the given answers. An answer of None raises NVMLError."""

    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0
    NVMLError = NVMLError

    def __init__(self, **answers):
        self.answers = {
            "TotalEnergyConsumption": iter([1_000, 4_000]), "PowerUsage": 350_000, "ClockInfo": 1755, "Temperature": 61,
            "CurrentClocksEventReasons": 0,
            "ComputeRunningProcesses": [SimpleNamespace(pid=os.getpid(), usedGpuMemory=7), SimpleNamespace(pid=1)],
            **answers,
        }  # fmt: skip

    def nvmlInit(self):  # noqa: N802 - NVML's own name
        """Do nothing, or raise NVMLError if the answer for `Init` is None."""
        if self.answers.get("Init", True) is None:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802 - NVML's own name
        """Return the UUID as the handle."""
        return uuid

    def __getattr__(self, name):
        answer = self.answers[name.removeprefix("nvmlDeviceGet")]

        def ask(*arguments):
            if answer is None:
                raise NVMLError("Not Supported")
            return next(answer) if hasattr(answer, "__next__") else answer

        return ask


def read(**answers):
    """Return the telemetry of one block on a fake GPU."""
    reader = NvmlTelemetry("GPU-1", FakeNvml(**answers))
    reader.start()
    return reader.read()


def test_a_block_on_a_gpu_has_clock_power_temperature_energy_and_other_processes():
    """All values are converted to the units in their names, and `energy_j` is the energy used during the block."""
    assert read() == {
        "sm_clock_mhz": 1755, "power_w": 350.0, "temperature_c": 61, "energy_j": 3.0, "throttle": [],
        "foreign_pids": [1],
    }  # fmt: skip


def test_throttle_reasons_are_named_and_idle_is_not_one():
    """Reasons for throttling are listed by name. Idling and clocks set by the user are not listed."""
    assert read(CurrentClocksEventReasons=0x4 | 0x40)["throttle"] == ["power_cap", "thermal_hardware"]
    assert read(CurrentClocksEventReasons=0x1 | 0x2)["throttle"] == []


@pytest.mark.parametrize("refused", ["TotalEnergyConsumption", "PowerUsage", "ComputeRunningProcesses", "ClockInfo"])
def test_a_value_that_nvml_refuses_is_none(refused):
    """If NVML fails to return one value, only this value is None."""
    known = read(**{refused: None})
    assert sum(value is None for value in known.values()) == 1


def test_without_nvml_telemetry_is_empty_with_one_warning(monkeypatch):
    """If NVML can't be used, `telemetry_for` warns once, and the telemetry is empty."""
    from attnbench.machine import nvml

    monkeypatch.setattr(nvml, "NvmlTelemetry", lambda uuid: NvmlTelemetry(uuid, FakeNvml(Init=None)))
    with pytest.warns(RuntimeWarning, match="NVML can't be used: Driver Not Loaded") as caught:
        reader = telemetry.telemetry_for("cuda:0", lambda device: "GPU-1")
    assert len(caught) == 1
    reader.start()
    assert reader.read() == {}


def test_cpu_telemetry_reads_the_real_machine():
    """On the real machine, CPU telemetry can be read without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader = telemetry.telemetry_for("cpu", str)
        reader.start()
        known = reader.read()
    assert known["load_1m"] >= 0
    assert known["steal"] >= 0
    assert known["waited"] is None or known["waited"] >= 0
    assert isinstance(known["throttle"], list)


@pytest.mark.parametrize(("throttled_us", "tagged"), [([5, 5], False), ([5, 900], True)])
def test_a_block_is_tagged_if_the_cpu_quota_stopped_it(monkeypatch, throttled_us, tagged):
    """A block is tagged `quota` if the container's CPU quota ran out during the block."""
    answers = iter([throttled_us[0], *throttled_us])
    groups = SimpleNamespace(throttled_us=lambda: next(answers))
    monkeypatch.setattr(telemetry, "ControlGroups", lambda: groups)
    reader = telemetry.CpuTelemetry()
    reader.start()
    assert ("quota" in reader.read()["throttle"]) == tagged


@pytest.mark.parametrize(("waited_ns", "tagged"), [(0, False), (10_000_000, False), (300_000_000, True)])
def test_a_block_is_tagged_when_its_threads_had_to_wait_for_a_core(monkeypatch, waited_ns, tagged):
    """A block is tagged `foreign_load` if its threads waited for a core for 30% of the time; 1% is not enough."""
    clock = iter([0.0, 0.0, 1.0])
    waited = iter([5, 5, 5 + waited_ns])
    monkeypatch.setattr(telemetry.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(telemetry, "_waited_ns", lambda: next(waited))
    reader = telemetry.CpuTelemetry()
    reader.start()
    known = reader.read()
    assert ("foreign_load" in known["throttle"]) == tagged
    assert known["waited"] == pytest.approx(waited_ns / 1e9, abs=1e-4)


def test_without_waiting_times_foreign_load_is_measured_over_several_blocks(monkeypatch):
    """If waiting times are not available, the load from other processes is measured over several blocks.

    One block is too short, because CPU time is counted in ticks of 10 ms.
    """
    monkeypatch.setattr(telemetry, "_waited_ns", lambda: None)
    clock, busy = iter(n * 0.02 for n in range(100)), iter(n * 0.02 for n in range(100))
    monkeypatch.setattr(telemetry.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(telemetry, "_cpu_seconds", lambda cores: (next(busy), 0.0))
    reader = telemetry.CpuTelemetry()
    reader._process = SimpleNamespace(cpu_times=lambda: (0.0, 0.0))
    reader._process_s = 0.0
    known = []
    for _ in range(12):
        reader.start()
        known.append(reader.read())
    assert known[0]["foreign_cores"] is None
    assert known[0]["throttle"] == []
    assert known[-1]["foreign_cores"] == pytest.approx(1.0)
    assert "foreign_load" in known[-1]["throttle"]
