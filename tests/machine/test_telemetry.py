from __future__ import annotations

import os
import warnings
from types import SimpleNamespace

import pytest

from attnbench.machine import nvml, telemetry
from attnbench.machine.nvml import NvmlTelemetry
from fake_nvml import FakeNvml, NVMLError, NVMLError_NotFound, gpu, instance

UUID = "GPU-0000"


def used(power_mw=None, **answers):
    """Return a GPU that this process and process 1 use. If `power_mw` is not None, its power is not averaged only."""
    processes = [SimpleNamespace(pid=os.getpid(), usedGpuMemory=7), SimpleNamespace(pid=1, usedGpuMemory=9)]
    value = SimpleNamespace(nvmlReturn=0 if power_mw else 3, value=SimpleNamespace(uiVal=power_mw))
    return gpu(
        0,
        **{
            "TotalEnergyConsumption": iter([1_000, 4_000]), "PowerUsage": 350_000, "ClockInfo": 1755, "Temperature": 61,
            "CurrentClocksEventReasons": 0, "ComputeRunningProcesses": processes,
            "FieldValues": lambda fields: [value] if fields == [186] else [], **answers,
        },
    )  # fmt: skip


def read(**answers):
    """Return the telemetry of one block on a fake GPU."""
    reader = NvmlTelemetry(UUID, FakeNvml(used(**answers)))
    reader.start()
    return reader.read()


def violating(**counters_ns):
    """Return answers for `ViolationStatus`: for each limit, how long it kept the clocks down in the block, in ns."""
    policies = {"power": 0, "thermal": 1, "sync_boost": 2, "board_limit": 3, "reliability": 5}
    counts = {policies[name]: iter([5_000_000_000, 5_000_000_000 + ns]) for name, ns in counters_ns.items()}

    def ask(policy):
        if policy not in counts:
            raise NVMLError("Not Supported")
        return SimpleNamespace(violationTime=next(counts[policy]))

    return ask


def test_a_block_on_a_gpu_has_clock_power_temperature_energy_and_other_processes():
    """All values are converted to the units in their names, and `energy_j` is the energy used during the block."""
    assert read(power_mw=612_000) == {
        "sm_clock_mhz": 1755, "power_w": 612.0, "power_average_w": 350.0, "temperature_c": 61, "energy_j": 3.0,
        "throttle": [], "foreign_pids": [1], "foreign_sm_percent": None,
    }  # fmt: skip


def test_the_averaged_power_never_stands_for_the_power_of_a_block():
    """If the driver offers no power that is not averaged, `power_w` is None and the average has its own name."""
    for offered in ({}, {"FieldValues": NVMLError("Function Not Found")}):
        known = read(**offered)
        assert (known["power_w"], known["power_average_w"]) == (None, 350.0)


def test_throttle_reasons_are_named_and_idle_is_not_one():
    """Reasons for throttling are listed by name. Idling and clocks set by the user are not listed."""
    assert read(CurrentClocksEventReasons=0x4 | 0x40)["throttle"] == ["power_cap", "thermal_hardware"]
    assert read(CurrentClocksEventReasons=0x1 | 0x2)["throttle"] == []


def test_throttling_during_a_block_is_found_even_if_the_gpu_is_idle_when_it_is_read(monkeypatch):
    """A limit is listed if its counter grew by more than 2% of the block, whatever applies at the end of the block."""
    clock = iter(range(100))  # each block lasts one second
    monkeypatch.setattr(nvml.time, "perf_counter", lambda: next(clock))
    limits = violating(power=400_000_000, thermal=19_000_000, board_limit=21_000_000)
    assert read(ViolationStatus=limits)["throttle"] == ["power_cap", "board_limit"]


def test_a_limit_that_applied_only_before_a_block_is_not_listed():
    """If the driver counts how long a limit applied, its reason at the end of the block does not matter."""
    known = read(ViolationStatus=violating(power=0), CurrentClocksEventReasons=0x4 | 0x8)
    assert known["throttle"] == ["hardware_slowdown"]


@pytest.mark.parametrize("refused", ["TotalEnergyConsumption", "PowerUsage", "ComputeRunningProcesses", "ClockInfo"])
def test_a_value_that_nvml_refuses_is_none(refused):
    """If NVML fails to return one value, only this value is None."""
    known = read(power_mw=1, ProcessUtilization=[], **{refused: NVMLError("Not Supported")})
    known.pop("foreign_sm_percent")
    assert sum(value is None for value in known.values()) == 1


def test_processes_of_the_host_are_not_taken_for_foreign_ones():
    """If this process is not among the PIDs, as in a container, neither other processes nor its memory are known."""
    processes = [SimpleNamespace(pid=40_000_000 + n, usedGpuMemory=5) for n in range(2)]
    assert read(ComputeRunningProcesses=processes)["foreign_pids"] is None
    assert NvmlTelemetry(UUID, FakeNvml(used(ComputeRunningProcesses=processes))).used_bytes() is None
    assert NvmlTelemetry(UUID, FakeNvml(used())).used_bytes() == 7


def sample(pid, at_us, percent):
    """Return NVML's sample of how much a process used the SMs."""
    return SimpleNamespace(pid=pid, timeStamp=at_us, smUtil=percent)


@pytest.mark.parametrize(
    ("samples", "percent", "tagged"),
    [
        ([sample(os.getpid(), 2, 90), sample(1, 2, 40)], 40, True),
        ([sample(1, 3, 2), sample(1, 2, 60)], 2, False),  # of each process, the latest sample counts
        ([sample(os.getpid(), 2, 99)], 0, False),
        (NVMLError_NotFound("Not Found"), 0, False),
        (NVMLError("Not Supported"), None, False),
    ],
)
def test_kernels_of_other_processes_disturb_a_block_on_a_gpu(samples, percent, tagged):
    """A block on a GPU is tagged `foreign_load` if processes outside the run used the SMs for more than 5%."""
    answer = samples if isinstance(samples, Exception) else lambda _: samples
    known = read(ProcessUtilization=answer)
    assert known["foreign_sm_percent"] == percent
    assert ("foreign_load" in known["throttle"]) == tagged


def test_the_workers_of_a_run_are_not_foreign(monkeypatch):
    """Other workers of the run, which have the same parent process, are neither foreign nor load from others."""
    monkeypatch.setattr(nvml.psutil, "Process", lambda pid: SimpleNamespace(ppid=os.getppid))
    known = read(ProcessUtilization=lambda _: [sample(1, 2, 80)])
    assert (known["foreign_pids"], known["foreign_sm_percent"], known["throttle"]) == ([], 0, [])


def test_a_mig_instance_has_its_own_processes_and_the_clock_of_its_gpu():
    """Power and energy are unknown on a MIG instance, because the GPU's sensor also measures other instances."""
    ours = {**instance("aaaa"), "ComputeRunningProcesses": [SimpleNamespace(pid=os.getpid(), usedGpuMemory=3)]}
    whole = {key: value for key, value in used(power_mw=1).items() if key != "ComputeRunningProcesses"}
    reader = NvmlTelemetry("MIG-aaaa", FakeNvml({**whole, "instances": [ours]}))
    reader.start()
    known = reader.read()
    assert {name for name, value in known.items() if value is None} == {"power_w", "power_average_w", "energy_j"}
    assert (known["sm_clock_mhz"], known["foreign_pids"], reader.used_bytes()) == (1755, [], 3)


def test_without_nvml_telemetry_is_empty_with_one_warning(monkeypatch):
    """If NVML can't be used, `telemetry_for` warns once, and the telemetry is empty."""
    broken = FakeNvml(Init=NVMLError("Driver Not Loaded"))
    monkeypatch.setattr(nvml, "NvmlTelemetry", lambda uuid: NvmlTelemetry(uuid, broken))
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


def cpu_reader(monkeypatch, before, now, cores=2):
    """Return telemetry of a block of one second, in which the threads' times went from `before` to `now`."""
    clock, threads = iter([0.0, 0.0, 1.0]), iter([before, before, now])
    monkeypatch.setattr(telemetry.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(telemetry, "thread_times", lambda: next(threads))
    reader = telemetry.CpuTelemetry()
    reader._cores = range(cores)
    reader.start()
    return reader


@pytest.mark.parametrize(("waited_ns", "tagged"), [(0, False), (10_000_000, False), (300_000_000, True)])
def test_a_block_is_tagged_when_its_threads_had_to_wait_for_a_core(monkeypatch, waited_ns, tagged):
    """A block is tagged `foreign_load` if its threads waited for a core for 30% of the time; 1% is not enough."""
    known = cpu_reader(monkeypatch, {"1": (0, 5)}, {"1": (700_000_000, 5 + waited_ns)}).read()
    assert ("foreign_load" in known["throttle"]) == tagged
    assert known["waited"] == pytest.approx(waited_ns / 1e9, abs=1e-4)


@pytest.mark.parametrize(
    ("ran", "waited", "foreign_cores", "tagged"),
    [
        ((0.5, 0.5, 0.5, 0.5), 0.5, 0.0, False),  # four threads of this process share two cores
        ((0.5, 0.2, 0.2, 0.2), 0.3, 0.0, False),  # they share the cores for a part of the block, and then one goes on
        ((0.3, 0.3, 0.3, 0.3), 0.7, 0.8, True),  # another process uses nearly half of the two cores
        ((0.5, 0.5), 0.5, 0.0, True),  # two threads have a core each, so that only others can make them wait
    ],
)
def test_threads_that_wait_for_each_other_are_no_foreign_load(ran, waited, foreign_cores, tagged):
    """A process with more active threads than cores is not disturbed by its own threads, but by others it is."""
    second = 1_000_000_000
    before = {str(thread): (0, 5) for thread in range(len(ran))}
    now = {str(thread): (int(share * second), int(5 + waited * second)) for thread, share in enumerate(ran)}
    load = telemetry.ThreadLoad.between(before, now, 1.0, cores=2)
    assert load.active == len(ran)
    assert load.is_foreign(foreign_cores) == tagged


def test_the_kernels_own_work_on_many_cores_is_no_foreign_load():
    """The limit of the time that threads wait grows with their number: 0.1% on each of 64 cores is not tagged."""
    second = 1_000_000_000
    before = {str(thread): (0, 5) for thread in range(64)}
    now = dict.fromkeys(before, (second, 5 + second // 1000))
    load = telemetry.ThreadLoad.between(before, now, 1.0, cores=64)
    assert load.waited > telemetry.WAITED_LIMIT
    assert not load.is_foreign(0.0)
    assert telemetry.ThreadLoad.between(before, {**now, "0": (0, second // 2)}, 1.0, cores=64).is_foreign(0.0)


def test_without_waiting_times_foreign_load_is_measured_over_several_blocks(monkeypatch):
    """If waiting times are not available, the load from other processes is measured over several blocks.

    One block is too short, because CPU time is counted in ticks of 10 ms.
    """
    monkeypatch.setattr(telemetry, "thread_times", dict)
    clock, busy = iter(n * 0.02 for n in range(100)), iter(n * 0.02 for n in range(100))
    monkeypatch.setattr(telemetry.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(telemetry, "_cpu_seconds", lambda cores: (next(busy), 0.0))
    monkeypatch.setattr(telemetry.time, "process_time", lambda: 0.0)
    reader = telemetry.CpuTelemetry()
    known = []
    for _ in range(12):
        reader.start()
        known.append(reader.read())
    assert known[0]["foreign_cores"] is None
    assert known[0]["throttle"] == []
    assert known[-1]["foreign_cores"] == pytest.approx(1.0)
    assert "foreign_load" in known[-1]["throttle"]
