"""Tests of control group limits, with fake /proc and /sys trees."""

import pytest

from attnbench.machine.cgroups import ControlGroups

MIB = 1 << 20


@pytest.fixture
def groups(tmp_path):
    """Return a function that writes files under a root folder and returns the ControlGroups of that root."""

    def read(own_groups, files=()):
        for path, text in {"proc/self/cgroup": own_groups, **dict(files)}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return ControlGroups(tmp_path)

    return read


def version_2(folder, limit, used=0, inactive=0):
    """Return the memory files of a version 2 control group. Sizes are in MiB."""
    return {
        f"sys/fs/cgroup/{folder}memory.max": f"{limit * MIB if isinstance(limit, int) else limit}\n",
        f"sys/fs/cgroup/{folder}memory.current": f"{used * MIB}\n",
        f"sys/fs/cgroup/{folder}memory.stat": f"anon {used * MIB}\ninactive_file {inactive * MIB}\n",
    }


def version_1(folder, limit, used=0, inactive=0):
    """Return the memory files of a version 1 control group. Sizes are in MiB."""
    return {
        f"sys/fs/cgroup/memory/{folder}memory.limit_in_bytes": f"{limit * MIB}\n",
        f"sys/fs/cgroup/memory/{folder}memory.usage_in_bytes": f"{used * MIB}\n",
        f"sys/fs/cgroup/memory/{folder}memory.stat": f"inactive_file 0\ntotal_inactive_file {inactive * MIB}\n",
    }


@pytest.mark.parametrize(("group", "own"), [(version_2, "0::/outer/inner\n"), (version_1, "4:memory:/outer/inner\n")])
def test_the_tightest_memory_limit_of_nested_groups_counts(groups, group, own):
    """The lowest memory limit of nested groups applies, and file caches do not count as used memory."""
    found = groups(own, {**group("outer/inner/", 300, 40), **group("outer/", 100, 60, 20), **group("", 400, 390)})
    assert found.memory_limit() == 100 * MIB
    assert found.available_memory() == 10 * MIB
    assert groups(own, group("", 400, 100)).available_memory() == 60 * MIB


def test_a_limit_of_a_parent_alone_is_found(groups):
    """A group without a limit of its own is subject to its parent's limit."""
    files = {**version_2("outer/inner/", "max", 30), **version_2("outer/", 100, 60)}
    assert groups("0::/outer/inner\n", files).memory_limit() == 100 * MIB
    assert groups("0::/elsewhere\n").memory_limit() is None


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("", {}),
        ("0::/\n", {}),
        ("0::/\n", {**version_2("", "max"), "sys/fs/cgroup/cpu.max": "max 100000\n"}),
        (
            "4:memory:/\n3:cpu,cpuacct:/\n",
            {
                **version_1("", (2**63 - 4096) // MIB),
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
        ),
        ("4:cpuset:/\n", version_1("", 100)),
    ],
)
def test_no_limit_is_none(groups, own, files):
    """There is no limit if there are no groups, if their files are missing, or if the files contain no limit."""
    found = groups(own, files)
    assert (found.memory_limit(), found.available_memory(), found.cpu_quota()) == (None, None, None)
    assert found.throttled_us() == 0


def test_without_proc_there_are_no_limits(tmp_path):
    """A system without /proc/self/cgroup has no memory limit."""
    assert ControlGroups(tmp_path).memory_limit() is None


def test_the_smallest_cpu_quota_of_nested_groups_counts(groups):
    """The smallest CPU quota of nested groups applies, and is returned as a number of cores."""
    files = {
        "sys/fs/cgroup/outer/inner/cpu.max": "300000 100000\n",
        "sys/fs/cgroup/outer/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
    }
    assert groups("0::/outer/inner\n", files).cpu_quota() == 1.5


def test_a_cpu_quota_of_version_1_is_found(groups):
    """For a version 1 control group, the quota is computed from the quota and period files of the `cpu` controller."""
    files = {
        "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "50000\n",
        "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
    }
    assert groups("5:cpu,cpuacct:/job\n1:name=systemd:/\n", files).cpu_quota() == 0.5


def test_throttled_time_is_the_sum_over_the_groups_of_both_versions(groups):
    """The throttled times of nested groups are added, and nanoseconds (version 1) are converted to microseconds."""
    nested = {
        "sys/fs/cgroup/outer/cpu.stat": "nr_throttled 2\nthrottled_usec 900\n",
        "sys/fs/cgroup/outer/inner/cpu.stat": "nr_throttled 1\nthrottled_usec 5\n",
    }
    assert groups("0::/outer/inner\n", nested).throttled_us() == 905
    first = {"sys/fs/cgroup/cpu/cpu.stat": "nr_throttled 1\nthrottled_time 700000\n"}
    assert groups("3:cpu:/\n", first).throttled_us() == 700


def test_in_a_container_that_sees_an_outside_path_the_mounted_group_counts(groups):
    """If `/proc/self/cgroup` names a group that is not visible in the container, the mounted group is used."""
    for path in ("/docker/0123abcd", "/../../system.slice/job"):
        assert groups(f"0::{path}\n", version_2("", 100, 30)).memory_limit() == 100 * MIB
