from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from fake_device import FakeDevice

from attnbench import Workload
from attnbench.errors import MeasurementError
from attnbench.machine.telemetry import NoTelemetry
from attnbench.measure import clock
from attnbench.measure import sampler as sampler_module
from attnbench.measure.clock import gpu_uuid
from attnbench.measure.sampler import Sampler
from attnbench.measure_config import MeasureConfig
from attnbench.tensors.inputs import make_inputs

WORKLOAD = Workload(heads=1, seq_q=8, head_dim=4)


def sampled(device, work, monkeypatch, **settings):
    """Return a sampler on a fake device. The timed callable runs `work(device)` and returns the correct output."""
    for module in (sampler_module, clock):
        monkeypatch.setattr(module, "raw_now", lambda: int(device.host * device.system_speed))
    monkeypatch.setattr(clock, "waited_ns", lambda: device.waited)
    monkeypatch.setattr(clock, "cpu_now", lambda: int(device.host - (device.waited or 0.0) - device.slept))
    monkeypatch.setattr(sampler_module, "cache_bytes", lambda device: 1024)
    inputs = make_inputs(WORKLOAD, "cpu")

    def call():
        work(device)
        return (inputs.query @ inputs.key.mT).softmax(-1) @ inputs.value

    config = MeasureConfig(**{"warm_up_min_s": 0.002, **settings})
    return Sampler(
        call,
        inputs,
        WORKLOAD,
        "cpu",
        config,
        excerpt=lambda output, grads: output,
        clock=device,
        telemetry=NoTelemetry(),
    )


def ran(sampler, duration_ns=1e6):
    """Make the first call, warm up, and return one block."""
    sampler.first_call()
    sampler.warm_up()
    return sampler.block(duration_ns)


def test_device_events_give_the_samples(monkeypatch):
    """On an asynchronous device, a sample is the time between two events and excludes the launch on the host."""
    block = ran(sampled(FakeDevice(), lambda device: device.call(100_000.0), monkeypatch))
    assert block.samples_ns == pytest.approx([100_000.0] * len(block.samples_ns), rel=0.02)
    assert block.calls_per_sample == 1
    assert block.suspicions == ()
    assert block.device_ns == pytest.approx(101_000, rel=0.02)
    assert block.synchronised_ns >= block.device_ns


def test_short_calls_are_batched(monkeypatch):
    """Hot calls shorter than 50 us are timed in batches, and each sample is the mean time of one call."""
    block = ran(sampled(FakeDevice(launch_ns=100.0), lambda device: device.call(5_000.0), monkeypatch))
    assert block.calls_per_sample == 10
    assert block.samples_ns == pytest.approx([5_000.0] * len(block.samples_ns), rel=0.05)


def test_the_host_queues_ahead_and_waits_rarely(monkeypatch):
    """The host queues many calls before it waits for the device, so it waits only a few times per block."""
    device = FakeDevice()
    sampler = sampled(device, lambda device: device.call(60_000.0), monkeypatch)
    sampler.first_call()
    sampler.warm_up()
    before = device.synchronised
    block = sampler.block(20e6)
    assert len(block.samples_ns) >= 200
    assert device.synchronised - before < 20


def test_the_first_calls_of_a_turn_are_no_samples(monkeypatch):
    """Slow calls at the start of a worker's turn are not among the block's samples."""
    costs = iter([])
    sampler = sampled(FakeDevice(), lambda device: device.call(next(costs, 100_000.0)), monkeypatch)
    sampler.first_call()
    sampler.warm_up()
    for _ in range(3):
        costs = iter([900_000.0, 500_000.0, 200_000.0])
        assert max(sampler.block(2e6).samples_ns) < 110_000


def test_work_left_on_a_side_stream_is_suspect(monkeypatch):
    """If a synchronised call's wall time exceeds its event time by more than 10%, the block contains a suspicion."""
    work = lambda device: device.call(50_000.0, side_ns=100_000.0)  # noqa: E731 - a def would not be clearer
    block = ran(sampled(FakeDevice(), work, monkeypatch))
    assert [suspicion.kind for suspicion in block.suspicions] == ["side_stream"]


def test_waiting_for_a_core_is_not_work_on_a_side_stream(monkeypatch):
    """If the host waits for a core after the device has finished a call, the long wall time causes no suspicion."""
    device = FakeDevice()
    sampler = sampled(device, lambda device: device.call(50_000.0), monkeypatch)
    synchronise = device.synchronise
    monkeypatch.setattr(device, "synchronise", lambda: (synchronise(), device.wait_for_core(3e6)))
    block = ran(sampler)
    assert block.synchronised_ns > 3e6
    assert block.suspicions == ()


def test_launch_latency_alone_is_not_suspect(monkeypatch):
    """A short call whose wall time is mostly launch latency causes no suspicion."""
    block = ran(sampled(FakeDevice(launch_ns=4_000.0), lambda device: device.call(1_000.0), monkeypatch))
    assert block.suspicions == ()


def test_cold_calls_are_timed_one_by_one_after_a_flush(monkeypatch):
    """In cold mode, each sample is the time of one call and excludes the flush before the call."""
    device = FakeDevice(asynchronous=False, launch_ns=0.0)
    sampler = sampled(device, lambda device: device.call(5_000.0), monkeypatch, mode="cold")
    flushed = []
    monkeypatch.setattr(sampler, "_flush", lambda: (flushed.append(1), device.call(900_000.0)))
    block = ran(sampler)
    assert block.calls_per_sample == 1
    assert block.samples_ns == pytest.approx([5_000.0] * len(block.samples_ns), rel=0.05)
    assert len(flushed) >= len(block.samples_ns)


@pytest.mark.parametrize("cost", [0.0, -5.0])
def test_a_clock_that_stands_still_or_goes_back_is_an_error(monkeypatch, cost):
    """A sample of zero or less raises MeasurementError."""
    device = FakeDevice(launch_ns=0.0, tick_ns=100.0)
    sampler = sampled(device, lambda device: device.call(100_000.0), monkeypatch)
    sampler.first_call()
    sampler.warm_up()
    monkeypatch.setattr(device, "elapsed_ns", lambda start, end: cost)
    with pytest.raises(MeasurementError, match="stands still or runs backwards"):
        sampler.block(1e6)


def test_a_clock_that_disagrees_with_the_system_is_an_error(monkeypatch):
    """If the sampler's clock runs slower than the system's monotonic clock, `block` raises MeasurementError."""
    device = FakeDevice()
    sampler = sampled(device, lambda device: device.call(100_000.0), monkeypatch)
    sampler.first_call()
    sampler.warm_up()
    device.system_speed = 3.0
    with pytest.raises(MeasurementError, match="patched clock"):
        sampler.block(20e6)


def test_warm_up_ends_when_two_windows_agree(monkeypatch):
    """If calls become faster during the warm-up, the warm-up continues until their speed is steady."""
    costs = iter([400_000.0 * 0.98**index for index in range(100)])
    sampler = sampled(FakeDevice(), lambda device: device.call(next(costs, 50_000.0)), monkeypatch)
    sampler.first_call()
    warm_up = sampler.warm_up()
    assert warm_up.steady
    assert warm_up.calls > 100
    assert warm_up.ns_per_call == pytest.approx(50_000, rel=0.05)


@pytest.mark.parametrize(("call_ns", "calls"), [(1e6, 40), (2e6, 26), (10e6, 16)])
def test_windows_of_slow_calls_have_fewer_calls(monkeypatch, call_ns, calls):
    """A window of the warm-up has 20 calls or, if these take longer than 25 ms, as many as take 25 ms, at least 8."""
    device = FakeDevice(asynchronous=False)
    warm_up = sampled(device, lambda device: device.call(call_ns), monkeypatch).warm_up()
    assert warm_up.steady
    assert warm_up.calls == calls


def slow_only_in_the_warm_up(device, delay, monkeypatch):
    """Return a block of calls that take 1 ms. During the warm-up, each call also ran `delay`."""
    delays = [delay]

    def work(device):
        for run in delays:
            run()
        device.call(1e6)

    sampler = sampled(device, work, monkeypatch, warm_up_max_s=0.2)
    sampler.first_call()
    sampler.warm_up()
    delays.clear()
    return sampler.block(10e6)


def test_waiting_for_a_core_is_not_sleeping(monkeypatch):
    """If the calls of a warm-up were slow because they waited for a core, the timed calls are accepted."""
    device = FakeDevice(asynchronous=False)
    block = slow_only_in_the_warm_up(device, lambda: device.wait_for_core(20e6), monkeypatch)
    assert max(block.samples_ns) < 2e6


def test_sleeping_on_a_busy_machine_is_refused(monkeypatch):
    """If the calls of a warm-up slept, the timed calls are refused, even if the calls waited longer than they slept."""
    device = FakeDevice(asynchronous=False)
    with pytest.raises(MeasurementError, match=r"slow warm-up: .* a callable must not sleep"):
        slow_only_in_the_warm_up(device, lambda: (device.sleep(20e6), device.wait_for_core(40e6)), monkeypatch)


def test_no_sleep_is_assumed_if_waiting_times_are_unknown(monkeypatch):
    """If the kernel does not count how long threads waited for a core, slow calls in the warm-up are accepted."""
    device = FakeDevice(asynchronous=False)
    device.waited = None
    block = slow_only_in_the_warm_up(device, lambda: device.sleep(20e6), monkeypatch)
    assert max(block.samples_ns) < 2e6


def test_a_wait_between_two_readings_is_not_sleep(monkeypatch):
    """A process that has to wait for a core between the readings of two clocks does not look as if it had slept."""
    device = FakeDevice()
    sampled(device, lambda device: None, monkeypatch)
    for name in ("raw_now", "waited_ns"):
        read = getattr(clock, name)
        monkeypatch.setattr(clock, name, lambda read=read: (read(), device.wait_for_core(50e6))[0])
    share = clock.CpuShare()
    device.host += 1e6
    assert share.read() >= 1.0


def test_warm_up_ends_at_its_time_limit(monkeypatch):
    """If the speed of calls never becomes steady, the warm-up ends at its time limit and reports this."""
    costs = iter(range(1, 10**6))
    sampler = sampled(FakeDevice(), lambda device: device.call(50_000.0 * next(costs)), monkeypatch, warm_up_max_s=0.5)
    sampler.first_call()
    warm_up = sampler.warm_up()
    assert not warm_up.steady
    assert warm_up.elapsed_ns < 1.5e9


def test_a_call_longer_than_the_block_gives_one_sample(monkeypatch):
    """A block that is shorter than one call still contains a sample and an excerpt of an audited output."""
    sampler = sampled(FakeDevice(), lambda device: device.call(80e6), monkeypatch, warm_up_max_s=0.1)
    block = ran(sampler, 1e6)
    assert len(block.samples_ns) >= 1
    assert [type(excerpt) for excerpt in sampler.take_excerpts()] == [torch.Tensor]


def test_the_energy_of_a_block_comes_with_its_number_of_calls(monkeypatch):
    """If the device counts energy, the telemetry of a block also has the number of calls that used it."""
    sampler = sampled(FakeDevice(launch_ns=100.0), lambda device: device.call(5_000.0), monkeypatch)
    monkeypatch.setattr(sampler, "_telemetry", SimpleNamespace(start=lambda: None, read=lambda: {"energy_j": 2.0}))
    block = ran(sampler)
    assert block.telemetry["energy_j"] == 2.0
    assert len(block.samples_ns) * 10 <= block.telemetry["calls"] <= (len(block.samples_ns) + 1) * 10


def test_nvml_finds_the_mig_instance_of_a_worker_by_its_own_uuid(monkeypatch):
    """A worker on a MIG instance asks NVML for the instance, and a worker on a GPU for the UUID that torch knows."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234-56"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-aaaa")
    assert gpu_uuid("cuda:0") == "MIG-aaaa"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpu_uuid("cuda") == "GPU-1234-56"


@pytest.mark.parametrize("mode", ["hot", "cold"])
def test_samples_exclude_the_wait_for_the_host(monkeypatch, mode):
    """If the host needs longer to queue a call than the device to run it, a sample is still the device's time."""
    device = FakeDevice(launch_ns=40_000.0)
    sampler = sampled(device, lambda device: device.call(8_000.0), monkeypatch, mode=mode)
    if mode == "cold":
        monkeypatch.setattr(sampler, "_flush", lambda: device.call(30_000.0))
    block = ran(sampler, 20e6)
    assert len(block.samples_ns) >= 20
    assert block.samples_ns == pytest.approx([8_000.0] * len(block.samples_ns), rel=0.02)


def test_long_calls_need_no_delays(monkeypatch):
    """If the device needs longer for a call than the host, one delay before a series of calls is enough."""
    device = FakeDevice(launch_ns=40_000.0)
    sampler = sampled(device, lambda device: device.call(200_000.0), monkeypatch)
    sampler.first_call()
    sampler.warm_up()
    device.log.clear()
    block = sampler.block(20e6)
    assert block.samples_ns == pytest.approx([200_000.0] * len(block.samples_ns), rel=0.01)
    assert device.log.count("delay") < len(block.samples_ns) / 5


def test_a_call_that_waits_for_the_device_does_not_prolong_delays(monkeypatch):
    """Delays stay short if each call waits for the device and therefore also for the delay before it."""

    def work(device):
        device.call(100_000.0)
        device.synchronise()

    device = FakeDevice()
    sampler = sampled(device, work, monkeypatch)
    sampler.first_call()
    sampler.warm_up()
    began = device.host
    block = sampler.block(10e6)
    assert device.host - began < 100e6
    assert min(block.samples_ns) >= 100_000.0


def test_the_inputs_of_an_audited_call_change_after_the_delay(monkeypatch):
    """Before an audited call, the delay is queued before the inputs are changed.

    A call that does its work on another stream, without waiting for the current one, then reads the old inputs.
    """
    device = FakeDevice(launch_ns=40_000.0)
    sampler = sampled(device, lambda device: device.call(8_000.0), monkeypatch)
    sampler.first_call()
    sampler.warm_up()
    before = sampler._audit.before
    monkeypatch.setattr(
        sampler._audit, "before", lambda *given, **kind: (device.log.append("change"), before(*given, **kind))
    )
    device.log.clear()
    sampler.block(5e6)
    for index in (index for index, kind in enumerate(device.log) if kind == "change"):
        assert device.log[index - 1 : index + 2] == ["delay", "change", "call"]


class FakeEvent:
    """A stand-in for a CUDA event."""

    device_ns = 0.0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = FakeEvent.device_ns

    def elapsed_time(self, end):
        return (end.at - self.at) / 1e6


def test_a_delay_on_cuda_is_counted_in_cycles(monkeypatch):
    """A delay in ns is converted with the highest measured clock rate, because the first delays may run slower."""
    rates, slept = iter([0.5, 1.2, 1.9, 2.0, 2.0]), []

    def sleep(cycles):
        slept.append(cycles)
        FakeEvent.device_ns += cycles / next(rates, 2.0)

    monkeypatch.setattr(clock, "_Event", FakeEvent)
    monkeypatch.setattr(clock, "_sleep", sleep)
    monkeypatch.setattr(clock, "_device_count", lambda: 0)
    cuda = clock.CudaClock("cuda:0")
    cuda.delay(50_000.0)
    assert slept[-1] == pytest.approx(100_000)
