"""What a device does at most is measured once an environment."""

from types import SimpleNamespace

import pytest

from attnbench.plan import device_peaks

CPU = SimpleNamespace(name="cpu")


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Stand in for measuring, count what is measured, and keep it in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    counted = []

    def measure(device, dtypes):
        counted.append((device.name, *dtypes))
        rates = {"copy_bytes_per_s": 1.0, "matmul_flops_per_s": float(len(counted))}
        return {"limits": dict.fromkeys(dtypes, rates), "facts": {"threads": 2}}

    monkeypatch.setattr(device_peaks, "_measure", measure)
    return counted


def test_limits_are_kept_per_environment(measured):
    """What was measured is found again under the same environment, device and dtype alone."""
    first = device_peaks.measured_peaks(CPU, ["float16"], "here")
    assert device_peaks.measured_peaks(CPU, ["float16", "float16"], "here") == first
    both = device_peaks.measured_peaks(CPU, ["bfloat16", "float16"], "here")
    assert both["limits"]["float16"] == first["limits"]["float16"]
    device_peaks.measured_peaks(CPU, ["float16"], "elsewhere")
    device_peaks.measured_peaks(SimpleNamespace(name="cpu:0"), ["float16"], "here")
    assert measured == [("cpu", "float16"), ("cpu", "bfloat16"), ("cpu", "float16"), ("cpu:0", "float16")]


@pytest.mark.parametrize("torn", ["{", "[]", '{"limits": {"float32": 1}}', '{"limits": [], "facts": {}}'])
def test_a_broken_cache_costs_only_time(measured, tmp_path, torn):
    """A torn or foreign file is measured again."""
    device_peaks.measured_peaks(CPU, ["float32"], "here")
    (kept,) = (tmp_path / "attnbench").iterdir()
    kept.write_text(torn)
    device_peaks.measured_peaks(CPU, ["float32"], "here")
    assert len(measured) == 2


def test_a_cache_that_can_not_be_written_costs_only_time(measured, tmp_path, monkeypatch):
    """A folder that can't be made is no error."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert device_peaks.measured_peaks(CPU, ["float32"], "here")["limits"]["float32"]["copy_bytes_per_s"] == 1.0
