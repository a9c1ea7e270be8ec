"""A fleet on a cluster that is played: which group goes where, and what becomes of it when machines go."""

import json
from pathlib import Path

import pytest

from attnbench.cluster import task as errand
from attnbench.cluster.dispatch import MOST_LOSSES, Dispatch
from attnbench.cluster.executor import Fleet, NodeLostError, Site
from attnbench.errors import UsageError
from attnbench.runner.limits import Terms
from attnbench.runner.run import Request, plan_of, start
from attnbench.store import read_manifest, read_run


class Played:
    """A cluster whose tasks end when they are looked at; `fates` says what becomes of the orders, in turn."""

    name = "played"

    def __init__(self, sites, fates=()):
        self.there, self.fates = list(sites), list(fates)
        self.orders, self.cancelled, self.most_out = [], [], 0
        self._out = set()

    def sites(self):
        return self.there

    def submit(self, task, order, site):
        json.dumps(order)  # plain values alone
        if task is errand.describe:
            return "describe", site
        self.orders.append((site.name, order))
        handle = len(self.orders) - 1
        self._out.add(handle)
        self.most_out = max(self.most_out, len(self._out))
        return handle

    def finished(self, handles, timeout_s):
        return [next(iter(handles))] if handles else []

    def outcome(self, handle):
        if isinstance(handle, tuple):
            return described(handle[1])
        self._out.discard(handle)
        site, order = self.orders[handle]
        fate = self.fates.pop(0) if self.fates else "ok"
        if fate == "lost":
            raise NodeLostError("NodeDiedError")
        if fate == "gone":
            self.there = []
            raise NodeLostError("NodeDiedError")
        if fate == "raises":
            raise RuntimeError("task failed")
        if fate == "refused":
            return {"refused": "no such variant here", "host": "n"}
        return answer(site, order, wrong=fate == "wrong")

    def cancel(self, handle):
        self.cancelled.append(handle)

    def stop(self):
        pass


def environment(kind):
    """Give an environment as a machine would."""
    return {"environment_id": f"e-{kind}", "device_name": f"model {kind}", "driver": "1", "packages": {"torch": "2"}}


def described(site):
    """Say what a played machine is."""
    device = {"name": f"{site.kind}:0", "model": f"model {site.type}", "uuid": "u", "driver": "1"}
    return {"host": "n", "devices": [device], "environments": {site.kind: environment(site.type)}, "variants": {}}


def answer(site, order, *, wrong):
    """Hand back a record for each variant of the order."""
    records = [
        {
            "record_id": f"{site}{name}{order['workload']['seq_q']}",
            "run_id": order["run"],
            "cell_id": "c",
            "variant": name,
            "plugin": "p",
            "plugin_sha256": sha256,
            "workload": order["workload"],
            "device": order["device"],
            "device_name": "m",
            "environment_id": "e",
            "protocol_id": "p",
            "status": "perfect" if wrong else "unsupported",
            "phase": "prepare",
            "started_at": "t",
            "ended_at": "t",
            "log": "logs/x.log",
        }
        for name, sha256 in order["variants"].items()
    ]
    return {
        "host": "n",
        "device": "cuda:3",
        "environment": environment("n"),
        "records": records,
        "logs": {"../../x.log": "told"},
        "limits": {"float32": {}} if order["limits"] else {},
        "doctor": [],
        "useful_s": 0.0,
    }


@pytest.fixture
def sweep(stubbed):
    """Work a plan of two lengths off on a played cluster; give the run's folder, the summary and the cluster."""

    def work(sites, fates=(), types=(), *, patience_s=0.0):
        cluster = Played(sites, fates)
        executor = Fleet(cluster, types)
        axes = {"heads": [2], "seq": [16, 24], "head_dim": [8]}
        request = Request(
            variants=["alpha", "beta"], axes=axes, results=stubbed.folder / "results", name="r", every_device=True
        )
        catalog, plan = plan_of(request, executor)
        run = start(request, catalog, plan)
        dispatch = Dispatch(cluster, run, plan, [], started=print, stored=print, terms=Terms(), patience_s=patience_s)
        return run, dispatch.execute(), cluster

    return work


H100, A100, CORES = Site("H100", "cuda", 2), Site("A100", "cuda", 1), Site("any", "cpu", 8)


def test_each_type_of_gpu_gets_the_whole_plan_group_by_group(sweep):
    """All variants of a workload make one order; every type gets each; as many are out as there are devices."""
    run, summary, cluster = sweep([H100, A100, CORES])
    sent = sorted((name, order["workload"]["seq_q"], sorted(order["variants"])) for name, order in cluster.orders)
    assert sent == [(name, seq, ["alpha", "beta"]) for name in ("cuda:A100", "cuda:H100") for seq in (16, 24)]
    assert cluster.most_out == 3
    assert summary.statuses == {"unsupported": 8}
    assert len(read_run(run).records) == 8
    assert sum(bool(order["limits"]) for _, order in cluster.orders) == 2, "limits are measured once a type"
    assert set(read_manifest(run)["limits"]) == {"cuda:H100", "cuda:A100"}
    assert (run / "logs" / "x.log").read_text() == "told", "a log's path never leads out of logs/"
    assert not list(run.parent.parent.glob("*.log"))


def test_types_choose_and_an_unknown_one_is_bad_usage(sweep):
    """`--gpus` takes the types that it names; one that the fleet has not is told with the nearest."""
    _, _, cluster = sweep([H100, A100], types=["A100"])
    assert {name for name, _ in cluster.orders} == {"cuda:A100"}
    with pytest.raises(UsageError, match="did you mean 'A100'"):
        Fleet(Played([A100]), ["A10"]).devices([])


def test_a_group_whose_machine_is_lost_runs_elsewhere_of_the_same_type(sweep):
    """The group is sent again to its own type, and its limits are asked for again."""
    _, summary, cluster = sweep([A100], ["lost"])
    assert summary.statuses == {"unsupported": 4}
    assert [name for name, _ in cluster.orders] == ["cuda:A100"] * 3
    assert [bool(order["limits"]) for _, order in cluster.orders] == [True, True, False]


def test_a_group_that_costs_machine_after_machine_is_to_blame(sweep):
    """After several losses of machines its cells are crashes, and the others go on."""
    run, summary, cluster = sweep([A100], ["lost"] * MOST_LOSSES)
    assert summary.statuses == {"crash": 2, "unsupported": 2}
    assert len(cluster.orders) == MOST_LOSSES + 1
    assert "3 machines were lost" in str(next(r.reason for r in read_run(run).records if r.status == "crash"))


def test_cells_are_kept_for_later_when_no_machine_of_the_type_is_left(sweep):
    """They are interrupted, which --resume runs again."""
    run, summary, _ = sweep([A100], ["gone"])
    assert summary.statuses == {"interrupted": 4}
    assert all("no machine with cuda:A100 is left" in str(record.reason) for record in read_run(run).records)


@pytest.mark.parametrize(
    ("fate", "reason"),
    [("raises", "task failed"), ("refused", "no such variant here"), ("wrong", "handed back a wrong record")],
)
def test_what_a_machine_gets_wrong_costs_its_own_group(sweep, fate, reason):
    """A task that raises, refuses or hands nonsense back makes errors of its cells, and nothing else."""
    run, summary, _ = sweep([A100], [fate])
    assert summary.statuses == {"error": 2, "unsupported": 2}
    assert reason in str(next(record.reason for record in read_run(run).records if record.status == "error"))


def test_a_plugin_given_as_a_file_travels_with_what_it_imports_from_beside_it(tmp_path):
    """Its text and that of its sibling are in the parcel, and load on a machine that has neither."""
    (tmp_path / "beside.py").write_text("NAME = 'travels'\n")
    plugin = tmp_path / "travelling.py"
    plugin.write_text("import beside\n")
    packed = json.loads(json.dumps(errand.parcel([str(plugin), "some.module"])))
    with errand._unpacked(packed) as (unpacked, module):
        assert module == "some.module"
        assert unpacked != str(plugin)
        assert Path(unpacked).read_text() == "import beside\n"
        assert Path(unpacked).with_name("beside.py").read_text() == "NAME = 'travels'\n"
