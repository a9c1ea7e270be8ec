"""CUPTI is detached after a profile, or counts as attached."""

import itertools
import os

import pytest

from attnbench.measure import cupti
from attnbench.measure.cupti import profile_and_detach


@pytest.fixture
def process(monkeypatch, tmp_path):
    """Simulate the threads of a process: each file in the returned folder is a thread. Time passes in steps of 1 s."""
    (tmp_path / "main").touch()
    seconds = itertools.count()
    monkeypatch.setattr(cupti, "TASKS", tmp_path)
    monkeypatch.setattr(cupti.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(cupti.time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(cupti.torch.version, "cuda", "13.0")
    monkeypatch.setattr(cupti.torch.cuda, "synchronize", lambda: None)
    monkeypatch.setenv("TEARDOWN_CUPTI", "0")
    monkeypatch.setenv("DISABLE_CUPTI_LAZY_REINIT", "1")
    return tmp_path


def test_cupti_is_detached_once_its_thread_has_ended(process, monkeypatch):
    """CUPTI is detached if a thread starts during the profile and ends during later calls of the CUDA API."""
    calls = iter(["waits", "ends"])

    def profile():
        assert os.environ["TEARDOWN_CUPTI"] == "1"
        assert "DISABLE_CUPTI_LAZY_REINIT" not in os.environ
        (process / "finalise").touch()
        return "kernels"

    monkeypatch.setattr(
        cupti.torch.cuda, "synchronize", lambda: (process / "finalise").unlink() if next(calls) == "ends" else None
    )
    assert profile_and_detach(profile, "cuda:0") == ("kernels", True)
    assert next(calls, None) is None


def test_cupti_counts_as_attached_without_evidence(process, monkeypatch):
    """CUPTI counts as attached if no thread starts, if the thread does not end, or on a CUDA older than 12.6."""
    assert profile_and_detach(lambda: 1, "cuda:0") == (1, False)
    assert profile_and_detach((process / "finalise").touch, "cuda:0")[1] is False
    monkeypatch.setattr(cupti.torch.version, "cuda", "12.4")
    monkeypatch.setattr(cupti.torch.cuda, "synchronize", lambda: (process / "other").unlink(missing_ok=True))
    assert profile_and_detach((process / "other").touch, "cuda:0")[1] is False
    assert os.environ["TEARDOWN_CUPTI"] == "0"


def test_a_profile_on_a_cpu_has_nothing_to_detach(process):
    """On a CPU, CUPTI is not used, and the environment stays as it is."""
    assert profile_and_detach(lambda: 1, "cpu") == (1, True)
    assert os.environ["TEARDOWN_CUPTI"] == "0"
