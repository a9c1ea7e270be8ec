"""The peak rates of devices, which are measured once for each environment."""

from types import SimpleNamespace

import pytest

from attnbench.messages import PeaksReply
from attnbench.plan import device_peaks
from attnbench.stats.roofline import MachineLimits, Peaks

CPU = SimpleNamespace(name="cpu")


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Replace the measurement with a stub, use an empty cache, and return a list to which each measurement is added."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    counted = []

    def measure(device, dtypes):
        counted.append((device.name, *dtypes))
        rates = {"copy_bytes_per_s": 1.0, "matmul_flops_per_s": float(len(counted))}
        return PeaksReply(dict.fromkeys(dtypes, rates), {"threads": 2})

    monkeypatch.setattr(device_peaks, "_measure", measure)
    return counted


def test_peaks_are_cached_by_environment_device_and_dtype(measured):
    """Cached rates are used only for the environment, device and dtype for which they were measured."""
    first = device_peaks.measured_peaks(CPU, ["float16"], "here")
    assert device_peaks.measured_peaks(CPU, ["float16", "float16"], "here") == first
    both = device_peaks.measured_peaks(CPU, ["bfloat16", "float16"], "here")
    assert both["limits"]["float16"] == first["limits"]["float16"]
    device_peaks.measured_peaks(CPU, ["float16"], "elsewhere")
    device_peaks.measured_peaks(SimpleNamespace(name="cpu:0"), ["float16"], "here")
    assert measured == [
        ("cpu", "float16", "float32"),
        ("cpu", "bfloat16"),
        ("cpu", "float16", "float32"),
        ("cpu:0", "float16", "float32"),
    ]


@pytest.mark.parametrize(
    ("fact", "known"), [({"cache_bytes": 1 << 20}, 1 << 20), ({}, None), ({"cache_bytes": "?"}, None)]
)
def test_limits_are_those_of_the_environment(measured, monkeypatch, fact, known):
    """The limits of a device are the cached rates and the size of its cache; they are empty in another environment."""
    rates = {"copy_bytes_per_s": 2.0, "matmul_flops_per_s": 3.0}
    monkeypatch.setattr(device_peaks, "_measure", lambda device, dtypes: PeaksReply({"float32": rates}, fact))
    device_peaks.measured_peaks(CPU, ["float32"], "here")
    assert device_peaks.cached_limits(CPU, "here") == MachineLimits({"float32": Peaks(2.0, 3.0)}, known)
    assert device_peaks.cached_limits(CPU, "elsewhere") == MachineLimits({}, None)


@pytest.mark.parametrize("torn", ["{", "[]", '{"limits": {"float32": 1}}', '{"limits": [], "facts": {}}'])
def test_a_malformed_cache_file_is_measured_again(measured, tmp_path, torn):
    """The rates are measured again if the cache file is truncated or does not contain rates."""
    device_peaks.measured_peaks(CPU, ["float32"], "here")
    (kept,) = (tmp_path / "attnbench").iterdir()
    kept.write_text(torn)
    device_peaks.measured_peaks(CPU, ["float32"], "here")
    assert len(measured) == 2


def test_an_unwritable_cache_is_no_error(measured, tmp_path, monkeypatch):
    """The rates are returned even if the cache folder can't be created."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert device_peaks.measured_peaks(CPU, ["float32"], "here")["limits"]["float32"]["copy_bytes_per_s"] == 1.0
