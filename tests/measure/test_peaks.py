from __future__ import annotations

import itertools
from unittest.mock import Mock

import pytest
import torch
from fake_device import FakeDevice

from attnbench.measure import cache_flush, peaks
from attnbench.stats.roofline import Peaks


def test_the_lower_roof_decides():
    """`shortest_s` is the larger of compute time and copy time, and `share` is its ratio to the actual time."""
    machine = Peaks(copy_bytes_per_s=1e9, matmul_flops_per_s=1e12)
    assert machine.shortest_s(flops=10**9, moved_bytes=10**9) == pytest.approx(1.0)
    assert machine.shortest_s(flops=10**13, moved_bytes=10**9) == pytest.approx(10.0)
    assert machine.share(10**13, 10**9, seconds=20.0) == pytest.approx(0.5)


def test_peaks_are_rates_of_copy_and_matmul(monkeypatch):
    """The copy rate counts reads and writes, and the matmul rate is the highest among the measured matrix sizes."""
    device = FakeDevice(asynchronous=False, launch_ns=0.0)
    monkeypatch.setattr(peaks, "MIN_COPY_BYTES", 4096)
    monkeypatch.setattr(peaks, "cache_bytes", lambda device: 1024)
    monkeypatch.setattr(peaks, "MATMUL_SIZES", {"cpu": (8, 16)})
    monkeypatch.setattr(peaks, "LOAD_S", 1e-4)
    rates = {8: 1e9, 16: 4e9}

    def matmul(left, right):
        device.call(2 * left.shape[0] ** 3 / rates[left.shape[0]] * 1e9)

    monkeypatch.setattr(peaks.torch, "matmul", matmul)
    monkeypatch.setattr(peaks.torch.Tensor, "copy_", lambda self, other: device.call(1000.0))
    found = peaks.measure_peaks("cpu", "float32", device)
    assert found.matmul_flops_per_s == pytest.approx(4e9)
    assert found.copy_bytes_per_s == pytest.approx(2 * 4096 / 1e-6)


@pytest.mark.parametrize("disturbed", [1, 2])
def test_peaks_are_measured_on_a_device_that_is_awake(monkeypatch, disturbed):
    """The peak rates are those at the full clock rate, although it takes 0.3 s of load until the clock has risen.

    They are also not lowered if every second call is disturbed by other work.
    """
    device, calls = FakeDevice(asynchronous=False, launch_ns=0.0), itertools.count()

    def work(cost_ns):
        speed = 0.2 + 0.8 * min(1.0, device.device / 0.29e9)
        device.call(cost_ns / speed * (3.0 if next(calls) % disturbed else 1.0))

    monkeypatch.setattr(peaks, "MIN_COPY_BYTES", 4096)
    monkeypatch.setattr(peaks, "cache_bytes", lambda device: 1024)
    monkeypatch.setattr(peaks, "MATMUL_SIZES", {"cpu": (8,)})
    monkeypatch.setattr(peaks.torch, "matmul", lambda left, right: work(1e6))
    monkeypatch.setattr(peaks.torch.Tensor, "copy_", lambda self, other: work(2e6))
    found = peaks.measure_peaks("cpu", "float32", device)
    assert found.matmul_flops_per_s == pytest.approx(2 * 8**3 / 1e-3, rel=0.01)
    assert found.copy_bytes_per_s == pytest.approx(2 * 4096 / 2e-3, rel=0.01)


def test_a_flush_overwrites_twice_the_cache():
    """A flush overwrites at least twice the cache size. A smaller buffer raises MeasurementError."""
    flush = cache_flush.CacheFlush("cpu", 1000)
    assert flush.flushed_bytes >= 2000
    flush._buffer.fill_(1)
    flush()
    assert not torch.any(flush._buffer)
    with pytest.raises(cache_flush.MeasurementError, match="only 1999 bytes"):
        cache_flush.CacheFlush("cpu", 1000, flushed=1999)
    with pytest.raises(cache_flush.MeasurementError):
        cache_flush.CacheFlush("cpu", 0)


def test_the_largest_cache_is_taken(tmp_path, monkeypatch):
    """The largest cache's size is read from Linux's sysfs files, and an unknown size raises MeasurementError."""
    monkeypatch.setattr(cache_flush.os, "sysconf_names", {})
    for index, size in enumerate(("48K", "2048K", "105M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert cache_flush.cache_bytes("cpu", tmp_path) == 105 * 2**20
    with pytest.raises(cache_flush.MeasurementError, match="hot mode"):
        cache_flush.cache_bytes("cpu", tmp_path / "none")


def test_a_flush_on_cuda_overwrites_a_quarter_of_a_gibibyte(monkeypatch):
    """On CUDA, a flush overwrites at least 256 MiB, and at least twice the cache; persisting lines are given back."""
    calls = []
    monkeypatch.setattr(cache_flush.torch, "empty", lambda size, **_: size)
    monkeypatch.setattr(cache_flush, "forbid_persisting_lines", lambda: calls.append("forbid"))
    assert cache_flush.CacheFlush("cuda:0", 50 * 2**20).flushed_bytes == 2**28
    assert cache_flush.CacheFlush("cuda:0", 200 * 2**20).flushed_bytes == 400 * 2**20
    assert calls == ["forbid", "forbid"]


def test_persisting_lines_of_the_l2_cache_are_reset(monkeypatch):
    """The L2 cache's part for persisting accesses is set to 0 bytes, and a missing driver is ignored."""
    driver = Mock()
    cache_flush.forbid_persisting_lines(lambda name: driver)
    (limit, size), _ = driver.cuCtxSetLimit.call_args
    assert (limit, size.value) == (6, 0)
    driver.cuCtxResetPersistingL2Cache.assert_called_once_with()
    cache_flush.forbid_persisting_lines(Mock(side_effect=OSError))
