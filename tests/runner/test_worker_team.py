"""Teams of devices: forming them, placing cells on them, and merging the replies of their workers."""

from types import SimpleNamespace

import pytest

from attnbench import Workload
from attnbench.messages import (
    Block,
    CloseReply,
    CloseRequest,
    DoneReply,
    FailedReply,
    OpenReply,
    ProfileReply,
    Suspicion,
)
from attnbench.plan import placement
from attnbench.plan.devices import Device, choose_devices
from attnbench.plan.placement import devices_for, placement_problem, with_teams
from attnbench.runner.worker_team import WorkerTeam, slowest_reply

SIZES = {"batch": 8, "heads": 8, "seq_q": 16, "head_dim": 8}
GPUS = [Device(f"cuda:{index}", "H200", f"GPU-{index}", "550", 100) for index in range(4)]


@pytest.fixture
def four_gpus(monkeypatch):
    """Simulate a machine with four GPUs."""
    monkeypatch.setattr(placement, "list_devices", lambda: GPUS)


def test_a_team_sees_its_members_only():
    """A team is named after its member devices, and only these devices are visible to its workers."""
    pair = Device.team(GPUS[:2])
    assert (pair.name, pair.model, pair.size, pair.kind) == ("cuda:0+cuda:1", "2 x H200", 2, "cuda")
    assert pair.worker_environment()["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1"
    assert (pair.cores, pair.memory_bytes) == (None, 200)


def test_a_team_is_chosen_by_its_name():
    """A team's name, as used in records, selects a team of the same devices."""
    (team,) = choose_devices(["cpu:0+cpu:0"])
    assert [member.name for member in team.members] == ["cpu:0", "cpu:0"]
    assert team.cores == choose_devices(["cpu:0"])[0].cores


def test_each_workload_has_its_place(four_gpus):
    """A workload for one device can run on any single device, and a workload for several devices runs on a team.

    If a workload needs more devices than there are, the team contains all devices.
    """
    workloads = [Workload(**SIZES, gpus=count) for count in (1, 2, 8)]
    devices = with_teams(GPUS, workloads)
    assert [device.name for device in devices[4:]] == ["cuda:0+cuda:1", "cuda:0+cuda:1+cuda:2+cuda:3"]
    assert [[place.name for place in devices_for(workload, devices)] for workload in workloads] == [
        [gpu.name for gpu in GPUS], ["cuda:0+cuda:1"], ["cuda:0+cuda:1+cuda:2+cuda:3"],
    ]  # fmt: skip
    assert with_teams(GPUS, workloads[:1]) == GPUS
    assert devices_for(workloads[0], GPUS) == GPUS


def test_a_placement_problem_has_a_reason(four_gpus):
    """A wrong number of devices, or a split that the variant does not support, is reported as a problem."""
    plain, ring = (SimpleNamespace(ranks=ranks) for ranks in (1, 2))
    pair = Device.team(GPUS[:2])
    batch, sequence = (Workload(**SIZES, gpus=2, split=split) for split in ("batch", "ring"))
    assert placement_problem(pair, plain, batch) is None
    assert placement_problem(pair, ring, sequence) is None
    assert "each call works on 2 devices" in placement_problem(pair, plain, sequence)
    instances = Device.team([Device(f"cuda:{index}", "H200 MIG 1g.18gb", f"MIG-{index}") for index in range(2)])
    assert placement_problem(instances, plain, batch) is None
    assert "a process can use only one MIG instance" in placement_problem(instances, ring, sequence)
    assert "it needs split ring" in placement_problem(pair, ring, batch)
    assert "needs 2 devices, got 1: choose them with --device" in placement_problem(GPUS[0], plain, batch)
    assert "needs 1 device, got 2: choose them with --device" in placement_problem(pair, plain, Workload(**SIZES))


def test_the_reply_of_the_slowest_member_is_kept():
    """The slowest member's reply is kept. The reply to a block request also gets each member's median time.

    Of the replies to closing a cell, the one with the largest peak memory is kept, with the suspicions of all. The
    profilers of a team are detached only if that of each member is.
    """
    fast, slow = (Block([t, t + 2.0], 1, 20.0, telemetry={"a": t}) for t in (1.0, 5.0))
    assert slowest_reply([fast, slow]) == Block([5.0, 7.0], 1, 20.0, telemetry={"a": 5.0, "rank_ns": [2.0, 6.0]})
    opened = [OpenReply(1.0, t, {}, [flag]) for t, flag in ((2.0, "x"), (1.0, "y"))]
    assert slowest_reply(opened) == OpenReply(1.0, 2.0, {}, ["x", "y"])
    profiles = [ProfileReply(("kernel",), detached=detached) for detached in (True, False)]
    assert slowest_reply(profiles) == profiles[1]
    suspicions = (Suspicion("suspect", "cached output?"),)
    closed = [CloseReply(1, suspicions=suspicions), CloseReply(3)]
    assert slowest_reply(closed) == CloseReply(3, suspicions=suspicions)


def test_the_failure_of_one_member_fails_the_team():
    """A failed reply, or a reply of an unexpected type, is returned instead of a merged reply."""
    wrong = FailedReply("incorrect", "conform", "row 3")
    assert slowest_reply([OpenReply(1.0, 1.0, {}), wrong]) == wrong
    assert slowest_reply([OpenReply(1.0, 1.0, {}), DoneReply()]) == DoneReply()


def test_all_members_get_a_request_before_any_reply_is_read():
    """A request is sent to all members before the first reply is awaited, so that the members work at the same time."""
    calls = []

    class FakeWorker:
        def __init__(self, name):
            self.name, self.seconds, self.log = name, {}, None

        def post(self, message):
            calls.append(("post", self.name))

        def wait(self, deadline_s):
            calls.append(("wait", self.name))
            return DoneReply()

    assert WorkerTeam([FakeWorker("a"), FakeWorker("b")]).request(CloseRequest(), lambda _: 1.0) == DoneReply()
    assert calls == [("post", "a"), ("post", "b"), ("wait", "a"), ("wait", "b")]
