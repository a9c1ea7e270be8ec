"""Run plans on a simulated cluster in which nodes can be lost and tasks can fail."""

import dataclasses
import json
from pathlib import Path

import pytest

from attnbench.cluster import executor, node_task
from attnbench.cluster.backend import ClusterLostError, DeviceType, NodeLostError
from attnbench.cluster.executor import MAX_LOST_NODES, ClusterExecutor, GroupQueue
from attnbench.errors import UsageError
from attnbench.machine.finding import Problem
from attnbench.runner.cell_limits import CellLimits
from attnbench.runner.request import Request, plan_of
from attnbench.runner.run import start
from attnbench.store import read_manifest, read_run


class FakeCluster:
    """A simulated cluster. Each call to `finished` lets one task finish.

    `outcomes` contains the outcomes of the first tasks that finish: each is `lost`, `type lost`, `cluster lost`,
    `raises`, `refused`, `unfit`, `wrong` or `ok`. All other tasks have the outcome `ok`.
    """

    name = "fake"

    def __init__(self, device_types, outcomes=()):
        self.available, self.outcomes = list(device_types), list(outcomes)
        self.orders, self.cancelled, self.most_running = [], [], 0
        self._running = set()

    def device_types(self):
        return self.available

    def submit(self, function, argument, device_type):
        json.dumps(argument)  # raises TypeError if the argument can't be encoded as JSON
        if function is node_task.describe_node:
            return "describe", device_type
        self.orders.append((device_type.name, argument))
        handle = len(self.orders) - 1
        self._running.add(handle)
        self.most_running = max(self.most_running, len(self._running))
        return handle

    def finished(self, handles, timeout_s):
        return [next(iter(handles))] if handles else []

    def result(self, handle):
        if isinstance(handle, tuple):
            return description(handle[1])
        self._running.discard(handle)
        device, order = self.orders[handle]
        outcome = self.outcomes.pop(0) if self.outcomes else "ok"
        if outcome == "lost":
            raise NodeLostError("NodeDiedError")
        if outcome == "type lost":
            self.available = []
            raise NodeLostError("NodeDiedError")
        if outcome == "cluster lost":
            raise ClusterLostError("the head does not answer")
        if outcome == "raises":
            raise RuntimeError("task failed")
        if outcome == "refused":
            return {"refused": "no such variant here", "host": "n"}
        if outcome == "unfit":
            return {"refused": "another version here", "unfit": True, "host": "n", "node": device}
        return group_result(device, order, wrong=outcome == "wrong")

    def exclude(self, node):
        self.available = [
            dataclasses.replace(device_type, slots=device_type.slots - (device_type.name == node))
            for device_type in self.available
        ]

    def cancel(self, handle):
        self.cancelled.append(handle)

    def stop(self):
        pass


def environment(kind):
    """Return an environment like the ones in a node description."""
    return {"environment_id": f"e-{kind}", "device_name": f"model {kind}", "driver": "1", "packages": {"torch": "2"}}


def description(device_type):
    """Return the description of a node that has a device of this type."""
    kind, label = device_type.kind, device_type.label
    device = {"name": f"{kind}:0", "model": f"model {label}", "uuid": "u", "driver": "1"}
    return {"host": "n", "devices": [device], "environments": {kind: environment(label)}, "variants": {}}


def group_result(device, order, *, wrong):
    """Return a task's result with one record for each variant in `order`. With `wrong`, the records are invalid."""
    records = [
        {
            "record_id": f"{device}{name}{order['workload']['seq_q']}",
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
        "logs": {"../../x.log": "printed"},
        "peaks": {"float32": {}} if order["peak_dtypes"] else {},
        "doctor": [],
        "useful_s": 0.0,
    }


@pytest.fixture
def run_on(stubbed):
    """Return a function that runs two variants at two lengths on a simulated cluster.

    The function returns the run's folder, the summary and the cluster.
    """

    def run_plan(device_types, outcomes=(), labels=(), *, missing_nodes_s=0.0, seqs=(16, 24)):
        cluster = FakeCluster(device_types, outcomes)
        executor = ClusterExecutor(cluster, labels)
        axes = {"heads": [2], "seq": list(seqs), "head_dim": [8]}
        request = Request(
            variants=["alpha", "beta"], axes=axes, results=stubbed.folder / "results", name="r", every_device=True
        )
        catalog, plan = plan_of(request, executor)
        run = start(request, catalog, plan)
        queue = GroupQueue(
            cluster, run, plan, [], started=print, stored=print, limits=CellLimits(), missing_nodes_s=missing_nodes_s
        )
        return run, queue.execute(), cluster

    return run_plan


H100, A100, CORES = DeviceType("H100", "cuda", 2), DeviceType("A100", "cuda", 1), DeviceType("any", "cpu", 8)


def test_each_type_of_gpu_runs_the_whole_plan_in_groups(run_on):
    """Each task measures all variants on one workload, each type of GPU gets all workloads, and all GPUs are used."""
    run, summary, cluster = run_on([H100, A100, CORES])
    sent = sorted((name, order["workload"]["seq_q"], sorted(order["variants"])) for name, order in cluster.orders)
    assert sent == [(name, seq, ["alpha", "beta"]) for name in ("cuda:A100", "cuda:H100") for seq in (16, 24)]
    assert cluster.most_running == 3
    assert summary.statuses == {"unsupported": 8}
    assert len(read_run(run).records) == 8
    assert sum(bool(order["peak_dtypes"]) for _, order in cluster.orders) == 2, (
        "peak rates were not measured once per type"
    )
    assert set(read_manifest(run)["limits"]) == {"cuda:H100", "cuda:A100"}
    assert (run / "logs" / "x.log").read_text() == "printed", "the log was not written to logs/"
    assert not list(run.parent.parent.glob("*.log"))


def test_types_are_chosen_by_label_and_an_unknown_one_is_an_error(run_on):
    """`--gpus` selects types of GPU, and the error for an unknown type suggests the most similar type."""
    _, _, cluster = run_on([H100, A100], labels=["A100"])
    assert {name for name, _ in cluster.orders} == {"cuda:A100"}
    with pytest.raises(UsageError, match="did you mean 'A100'"):
        ClusterExecutor(FakeCluster([A100]), ["A10"]).devices([])


def test_a_type_that_its_node_does_not_have_is_an_error():
    """If the scheduler reports a GPU that is not found on the node, the error names the node and the type."""
    cluster = FakeCluster([H100])
    cluster.result = lambda handle: description(DeviceType("H100", "cpu", 1))
    with pytest.raises(UsageError, match="H100 on machine n, but no cuda device was found there"):
        ClusterExecutor(cluster).devices([])


def test_a_group_whose_node_is_lost_runs_on_another_of_the_same_type(run_on):
    """If a node is lost, its group is sent to the same type of device again, and peak rates are requested again."""
    _, summary, cluster = run_on([A100], ["lost"])
    assert summary.statuses == {"unsupported": 4}
    assert [name for name, _ in cluster.orders] == ["cuda:A100"] * 3
    assert [bool(order["peak_dtypes"]) for _, order in cluster.orders] == [True, True, False]


def test_a_group_that_loses_node_after_node_is_a_crash(run_on):
    """After MAX_LOST_NODES lost nodes, a group's cells are recorded as crashes, and the other groups still run."""
    run, summary, cluster = run_on([A100], ["lost"] * MAX_LOST_NODES)
    assert summary.statuses == {"crash": 2, "unsupported": 2}
    assert len(cluster.orders) == MAX_LOST_NODES + 1
    assert "3 machines were lost" in str(next(r.reason for r in read_run(run).records if r.status == "crash"))


def test_cells_are_interrupted_when_no_node_of_their_type_is_left(run_on):
    """If no node of a type is left, the type's cells are recorded as interrupted, so that `--resume` runs them."""
    run, summary, _ = run_on([A100], ["type lost"])
    assert summary.statuses == {"interrupted": 4}
    assert all("no machine with cuda:A100 is left" in str(record.reason) for record in read_run(run).records)


def test_a_node_that_cannot_measure_these_variants_gets_no_further_groups(run_on):
    """If a node has other plugins, another node measures its group, and the summary names the reason."""
    run, summary, cluster = run_on([H100], ["unfit"])
    assert summary.statuses == {"unsupported": 4}
    assert summary.refusals == ["another version here"]
    assert len(cluster.orders) == 3
    assert len(read_run(run).records) == 4


def test_cells_are_errors_when_every_node_of_their_type_was_refused(run_on):
    """If no node has the same plugins, the cells are recorded as errors at once, without waiting for other nodes."""
    run, summary, cluster = run_on([A100], ["unfit"], missing_nodes_s=1e9)
    assert summary.statuses == {"error": 4}
    assert len(cluster.orders) == 1
    assert all("another version here" in str(record.reason) for record in read_run(run).records)


def test_a_lost_cluster_ends_the_run_with_the_remedy(run_on, stubbed):
    """If the cluster is lost, the error names the cause and the command that continues, and stored records remain."""
    with pytest.raises(ClusterLostError, match=r"head does not answer; .* start the cluster again.*--resume \S+/r and"):
        run_on([A100], ["ok", "cluster lost"])
    assert len(read_run(stubbed.folder / "results" / "r").records) == 2


def test_the_manifest_is_written_once_for_each_node(run_on, monkeypatch):
    """The manifest, which contains the whole plan, is not written again for each group of a known node."""
    written, write = [], executor.store.write_manifest

    def counted(run, manifest):
        written.append(run)
        write(run, manifest)

    monkeypatch.setattr(executor.store, "write_manifest", counted)
    run_on([A100], seqs=range(8, 28))
    assert len(written) == 2, "expected one manifest for the new run and one for the node"


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [("raises", "task failed"), ("refused", "no such variant here"), ("wrong", "returned an invalid record")],
)
def test_a_failed_task_costs_only_its_own_group(run_on, outcome, reason):
    """If a task fails, is refused or returns an invalid record, only the cells in its group are recorded as errors."""
    run, summary, _ = run_on([A100], [outcome])
    assert summary.statuses == {"error": 2, "unsupported": 2}
    assert reason in str(next(record.reason for record in read_run(run).records if record.status == "error"))


def test_a_node_whose_gpu_cannot_be_used_says_why(monkeypatch):
    """A node that is to measure on a GPU but can't use its GPUs refuses with the reason and the remedy."""
    monkeypatch.setattr(node_task, "gpu_problem", lambda: Problem("the driver is too old", "update it"))
    with (
        pytest.raises(UsageError, match=r"machine .+: the driver is too old: update it"),
        node_task._free_device("cuda"),
    ):
        pass
    with node_task._free_device("cpu") as device:
        assert device.kind == "cpu"


def test_a_plugin_file_is_sent_with_the_files_that_it_imports(tmp_path):
    """A plugin's file and the module that it imports are packed together and unpacked into one folder on the node."""
    (tmp_path / "beside.py").write_text("NAME = 'travels'\n")
    plugin = tmp_path / "travelling.py"
    plugin.write_text("import beside\n")
    packed = json.loads(json.dumps(node_task.pack_plugins([str(plugin), "some.module"])))
    with node_task._unpacked(packed) as (unpacked, module):
        assert module == "some.module"
        assert unpacked != str(plugin)
        assert Path(unpacked).read_text() == "import beside\n"
        assert Path(unpacked).with_name("beside.py").read_text() == "NAME = 'travels'\n"
