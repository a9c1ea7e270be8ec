"""Run plans on a real Ray cluster with several nodes on this machine, of which one is killed while it is measuring."""

import os
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest

from attnbench.cluster.backend import ClusterLostError
from attnbench.cluster.executor import ClusterExecutor
from attnbench.cluster.ray import TYPE_LABEL, RayCluster
from attnbench.errors import UsageError
from attnbench.isolation import forkserver_main
from attnbench.measure_config import MeasureConfig
from attnbench.runner.request import Request, plan_of
from attnbench.runner.run import execute, start
from attnbench.runner.run_listener import RunListener
from attnbench.store import read_manifest, read_run
from waiting import LONG_S

pytest.importorskip("ray", reason="Ray is not installed: pip install 'attnbench[ray]'")

BUDGET = MeasureConfig(budget_s=0.2, warm_up_max_s=0.1)
POLL_S = 0.05


VERSIONED = """
import attnbench
from attnbench_variants.naive import Naive

class Versioned(Naive):
    name = "versioned"
    version = {version}

@attnbench.hookimpl
def attnbench_variants():
    return [Versioned()]
"""
COMMAND = """
from attnbench.cli import main
from attnbench.cluster import ray

ray.HEAD_TIMEOUT_S = 5.0
main()
"""


@pytest.fixture(scope="module")
def cluster():
    """Start a cluster whose head node runs no tasks. Each test adds more nodes, and the last one kills the head."""
    from ray._private import node
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # Ray gives a node 30 s to start, which is too short on a busy machine, and has no option to change it.
        slow = SimpleNamespace(**{**vars(time), "monotonic": lambda: time.monotonic() * 30 / LONG_S})
        patch.setattr(node, "time", slow)
        for name, value in {
            "USAGE_STATS_ENABLED": "0",
            "ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "TMPDIR": "/tmp",  # noqa: S108 - the paths of Ray's sockets must be short
        }.items():
            patch.setenv(f"RAY_{name}", value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        yield made
        made.shutdown()


def add_node(cluster, label=None):
    """Add a node with one core, and with a label for its type of device if one is given."""
    labels = {TYPE_LABEL: label} if label else {}
    return cluster.add_node(num_cpus=1, labels=labels, object_store_memory=100 * 1024 * 1024)


def processes(node):
    """Return a node's fork servers and workers."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    children = raylet.children(recursive=True)
    return [child for child in children if forkserver_main.__name__ in child.cmdline()]


def run_on(cluster, tmp_path, labels, seqs, listener=None, variants=("naive", "sdpa"), plugins=()):
    """Run variants on nodes with these labels, and return the run's folder and the summary."""
    executor = ClusterExecutor(RayCluster(cluster.address), labels, plugins)
    request = Request(
        variants=list(variants),
        plugins=list(plugins),
        axes={"heads": [2], "seq": seqs, "head_dim": [8]},
        protocol=BUDGET,
        results=tmp_path,
        name="run",
        every_device=True,
    )
    catalog, plan = plan_of(request, executor)
    run = start(request, catalog, plan)
    return run, execute(run, catalog, plan, executor=executor, listener=listener)


def test_each_type_of_node_measures_the_plan(tmp_path, cluster, monkeypatch):
    """Two nodes of different types each run all cells, and each record names its type of device."""
    import ray

    remote, exported = ray.remote, []

    def counted(*functions, **options):
        exported.extend(functions)
        return remote(*functions, **options)

    monkeypatch.setattr(ray, "remote", counted)
    labels = ["left", "right"]
    for label in labels:
        add_node(cluster, label)
    run, summary = run_on(cluster, tmp_path, labels, [16])
    assert summary.statuses == {"ok": 4}
    done = [(record.device, record.variant, record.workload.seq_q) for record in read_run(run).records]
    assert sorted({device for device, _, _ in done}) == ["cpu:left", "cpu:right"]
    assert len(set(done)) == 4
    assert all(record.samples_ns for record in read_run(run).records)
    assert read_manifest(run)["fleet"]["executor"] == "ray"
    assert len(exported) == 1, "Ray keeps each exported function, so one function must serve all tasks"


def test_the_cells_of_a_killed_node_run_on_another_of_its_type(tmp_path, cluster, monkeypatch):
    """When a node is killed while it is measuring, another node measures its cells, and each cell gets one record."""
    nodes = {}
    for name in ("one", "another", "third"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))  # this node's tasks store their temporary runs there
        nodes[name] = add_node(cluster, "core")
    victims = []

    def kill():
        deadline = time.monotonic() + LONG_S
        while time.monotonic() < deadline:
            for name, node in nodes.items():
                if any((tmp_path / name).glob("attnbench-*/run/manifest.json")) and processes(node):
                    victims.extend(processes(node))
                    cluster.remove_node(node, allow_graceful=False)
                    return
            time.sleep(POLL_S)

    killer = threading.Thread(target=kill)
    killer.start()
    started, listener = [], RunListener()
    listener.cell_started = started.append
    run, summary = run_on(cluster, tmp_path, ["core"], [16, 24, 32], listener)
    killer.join()
    assert victims, "no node was killed while it measured"
    assert summary.statuses == {"ok": 6}
    assert len(started) > 6, "the cells of the killed node were not started again"
    cells = [record.cell_id for record in read_run(run).records if not record.control]
    assert len(cells) == len(set(cells)) == 6
    assert not psutil.wait_procs(victims, timeout=LONG_S)[1], "workers of the killed node are still running"


def test_a_node_with_another_version_of_a_plugin_measures_nothing(tmp_path, cluster, monkeypatch):
    """A node whose plugin differs is refused, another node measures its cells, and the summary names the reason."""
    paths = os.environ.get("PYTHONPATH", "")
    for version in (1, 2):
        folder = tmp_path / str(version)
        folder.mkdir()
        (folder / "versioned.py").write_text(VERSIONED.format(version=version))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), paths))))
        add_node(cluster, "mixed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path / "1"), paths))))
    monkeypatch.syspath_prepend(tmp_path / "1")
    run, summary = run_on(cluster, tmp_path, ["mixed"], [16, 24, 32], None, ["versioned"], ["versioned"])
    assert summary.statuses == {"ok": 3}
    assert len(summary.refusals) == 1
    assert "has a different source for variant 'versioned'" in summary.refusals[0]
    planned = read_manifest(run)["plugins"][-1]["variants"]["versioned"]
    assert {record.plugin_sha256 for record in read_run(run).records} == {planned}


def test_the_cluster_is_lost_if_ray_ends_on_this_machine():
    """Without this machine's raylet no task can be sent to any node, so its loss does not count as that of a node."""
    import ray

    def get(_):
        raise ray.exceptions.LocalRayletDiedError

    connected = RayCluster.__new__(RayCluster)
    connected._ray = SimpleNamespace(get=get, exceptions=ray.exceptions)
    with pytest.raises(ClusterLostError, match="the raylet on this machine has ended"):
        connected.result("handle")


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1:1", r"no Ray cluster answers at '127\.0\.0\.1:1'"), ("nowhere", r"expected host:port, or auto")],
)
def test_an_address_at_which_nothing_answers_is_an_error(address, message):
    """If there is no cluster at the address, UsageError is raised, and no cluster is started on this machine."""
    with pytest.raises(UsageError, match=message):
        RayCluster(address)


def test_a_run_whose_head_is_killed_can_be_resumed_on_a_new_cluster(tmp_path, cluster):
    """If the head is killed, the error names the cause and the remedy, and resuming measures the missing cells."""
    add_node(cluster)
    add_node(cluster)
    # The commands run in processes of their own, because Ray may end a process that has lost its head.
    command = [sys.executable, "-c", COMMAND, "run", "--results", str(tmp_path), "--executor", "ray"]
    cells = ["-v", "naive,sdpa", "--heads", "2", "--head-dim", "8", "--seq", "16,24,32", "--budget", "0.2"]
    where = ["--address", cluster.address, "--gpus", "any", "--name", "run"]
    with subprocess.Popen([*command, *cells, *where], stderr=subprocess.PIPE, text=True) as running:
        said = ""
        while not said.rpartition("\n")[2].startswith("[1/6"):
            line = running.stderr.readline()
            assert line, f"the run ended before its first record: {said}"
            said += "\n" + line.rstrip()
        for started in cluster.head_node.all_processes.values():
            for process in started:
                process.process.kill()
        assert re.search("the Ray cluster was lost: .*start the cluster again.*--resume", running.stderr.read())
    assert running.returncode == 1
    stored = {record.record_id for record in read_run(tmp_path / "run").records}
    assert len(stored) > 0
    resumed = subprocess.run([*command, "--resume", "run"], check=True, stderr=subprocess.PIPE, text=True)
    again = [record for record in read_run(tmp_path / "run").records if record.record_id not in stored]
    assert again, resumed.stderr
    done = [record.cell_id for record in read_run(tmp_path / "run").records if not record.control]
    assert len(done) == len(set(done)) == 6
