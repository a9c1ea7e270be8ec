from __future__ import annotations

import subprocess
import sys

import pytest

from attnbench.machine import doctor


def place(root, path, text):
    """Write a file into the fake /sys or /proc tree in the folder `root`."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(("chosen", "level"), [("performance", "ok"), ("powersave", "warning")])
def test_a_governor_that_follows_the_load_is_a_warning(tmp_path, chosen, level):
    """Any CPU frequency governor except `performance` causes a warning with a remedy."""
    place(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", f"{chosen}\n")
    finding = doctor.governor(tmp_path)
    assert finding.level == level
    assert (finding.remedy is not None) == (level == "warning")


@pytest.mark.parametrize(
    ("path", "on", "off"),
    [("intel_pstate/no_turbo", "0", "1"), ("cpufreq/boost", "1", "0")],
)
def test_turbo_is_read_from_both_drivers(tmp_path, path, on, off):
    """Turbo is read from Intel's driver, where 1 means off, and from the generic driver, where 1 means on."""
    place(tmp_path, f"sys/devices/system/cpu/{path}", on)
    assert doctor.turbo(tmp_path).level == "warning"
    place(tmp_path, f"sys/devices/system/cpu/{path}", off)
    assert doctor.turbo(tmp_path).level == "ok"


def test_a_cpu_quota_is_a_warning_in_cores(tmp_path):
    """A container's CPU quota causes a warning with the number of cores that the quota allows.

    Without a quota, the check is ok.
    """
    assert doctor.container(tmp_path).level == "ok"
    place(tmp_path, "proc/self/cgroup", "0::/\n")
    place(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    assert doctor.container(tmp_path).level == "ok"
    place(tmp_path, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    finding = doctor.container(tmp_path)
    assert finding.level == "warning"
    assert "1.5 cores" in finding.found


def test_a_containers_memory_limit_is_a_warning_if_it_is_below_the_free_memory(tmp_path):
    """A memory limit below the free memory causes a warning, and a limit above the total memory is not mentioned."""
    place(tmp_path, "proc/self/cgroup", "0::/\n")
    place(tmp_path, "sys/fs/cgroup/memory.max", f"{2**28}\n")
    finding = doctor.memory(tmp_path)
    assert finding.level == "warning"
    assert "limited to 0.2 GiB" in finding.found
    for unlimited in ("max", str(2**59)):
        place(tmp_path, "sys/fs/cgroup/memory.max", unlimited)
        assert "limited" not in doctor.memory(tmp_path).found


def test_more_threads_than_cores_are_a_warning(tmp_path, monkeypatch):
    """An OMP_NUM_THREADS that is larger than the container's CPU quota causes a warning."""
    place(tmp_path, "proc/self/cgroup", "0::/\n")
    place(tmp_path, "sys/fs/cgroup/cpu.max", "100000 100000\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert doctor.threads(tmp_path).level == "warning"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert doctor.threads(tmp_path).level == "ok"


def test_the_real_machine_is_examined_without_torch():
    """On the real machine, each warning from `examine` has a remedy, and torch is not imported."""
    code = (
        "import sys; from attnbench.machine.doctor import examine; findings = examine();"
        "assert all(finding.remedy for finding in findings if finding.level == 'warning'), findings;"
        "assert len({finding.check for finding in findings}) >= 8; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
