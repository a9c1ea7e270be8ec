"""Several devices at once: which they are, what one reply is made of theirs, and where cells go."""

from types import SimpleNamespace

import pytest

from attnbench import Workload
from attnbench.messages import Block, CloseReply, CloseRequest, DoneReply, FailedReply, OpenReply
from attnbench.plan import placement
from attnbench.plan.devices import Device, choose_devices
from attnbench.plan.placement import devices_for, placement_problem, with_teams
from attnbench.runner.worker_team import WorkerTeam, slowest_reply

SIZES = {"batch": 8, "heads": 8, "seq_q": 16, "head_dim": 8}
GPUS = [Device(f"cuda:{index}", "H200", f"GPU-{index}", "550", 100) for index in range(4)]


@pytest.fixture
def four_gpus(monkeypatch):
    """Stand in for a machine with four GPUs."""
    monkeypatch.setattr(placement, "list_devices", lambda: GPUS)


def test_a_team_sees_its_members_alone():
    """A team is named by its members, its worker sees them all, and nothing else."""
    pair = Device.team(GPUS[:2])
    assert (pair.name, pair.model, pair.size, pair.kind) == ("cuda:0+cuda:1", "2 x H200", 2, "cuda")
    assert pair.worker_environment()["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1"
    assert (pair.cores, pair.memory_bytes) == (None, 200)


def test_a_team_is_chosen_by_its_name():
    """What a record calls its devices chooses them again."""
    (one,) = choose_devices(["cpu:0+cpu:0"])
    assert [member.name for member in one.members] == ["cpu:0", "cpu:0"]
    assert one.cores == choose_devices(["cpu:0"])[0].cores


def test_each_workload_has_its_place(four_gpus):
    """Workloads on 1, 2 and 8 devices go to each by itself, to the first two, and to all there are at once."""
    workloads = [Workload(**SIZES, gpus=count) for count in (1, 2, 8)]
    devices = with_teams(GPUS, workloads)
    assert [device.name for device in devices[4:]] == ["cuda:0+cuda:1", "cuda:0+cuda:1+cuda:2+cuda:3"]
    assert [[place.name for place in devices_for(workload, devices)] for workload in workloads] == [
        [gpu.name for gpu in GPUS], ["cuda:0+cuda:1"], ["cuda:0+cuda:1+cuda:2+cuda:3"],
    ]  # fmt: skip
    assert with_teams(GPUS, workloads[:1]) == GPUS
    assert devices_for(workloads[0], GPUS) == GPUS


def test_what_does_not_fit_says_why(four_gpus):
    """Too few devices, and a split that is not the variant's, are said in a line."""
    plain, ring = (SimpleNamespace(ranks=ranks) for ranks in (1, 2))
    pair = Device.team(GPUS[:2])
    batch, sequence = (Workload(**SIZES, gpus=2, split=split) for split in ("batch", "ring"))
    assert placement_problem(pair, plain, batch) is None
    assert placement_problem(pair, ring, sequence) is None
    assert "as a ring does" in placement_problem(pair, plain, sequence)
    assert "its split is ring" in placement_problem(pair, ring, batch)
    assert "needs 2 devices at once, and has 1" in placement_problem(GPUS[0], plain, batch)
    assert "needs 1 device, and has 2" in placement_problem(pair, plain, Workload(**SIZES))


def test_the_slowest_rank_counts():
    """Of the members' blocks the slowest is kept, beside the medians of all."""
    fast, slow = (Block([t, t + 2.0], 1, 20.0, telemetry={"a": t}) for t in (1.0, 5.0))
    assert slowest_reply([fast, slow]) == Block([5.0, 7.0], 1, 20.0, telemetry={"a": 5.0, "rank_ns": [2.0, 6.0]})
    opened = [OpenReply(1.0, t, {}, [flag]) for t, flag in ((2.0, "x"), (1.0, "y"))]
    assert slowest_reply(opened) == OpenReply(1.0, 2.0, {}, ["x", "y"])
    closed = [CloseReply(size) for size in (1, 3)]
    assert slowest_reply(closed) == closed[1]


def test_one_that_fails_fails_all():
    """The failure of one member is the team's, and so is a reply of another type."""
    wrong = FailedReply("incorrect", "conform", "row 3")
    assert slowest_reply([OpenReply(1.0, 1.0, {}), wrong]) == wrong
    assert slowest_reply([OpenReply(1.0, 1.0, {}), DoneReply()]) == DoneReply()


def test_all_are_asked_before_any_is_waited_for():
    """Requests go to every member first, so that they work at the same time."""
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
