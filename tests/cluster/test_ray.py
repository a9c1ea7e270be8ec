"""Plans on a real Ray cluster: several nodes on this machine, one of which is killed while it measures."""

import threading
import time

import psutil
import pytest

from attnbench.cluster.executor import ClusterExecutor
from attnbench.cluster.ray import TYPE, RayCluster
from attnbench.errors import UsageError
from attnbench.measure_config import MeasureConfig
from attnbench.runner.listener import RunListener
from attnbench.runner.request import Request, plan_of
from attnbench.runner.run import execute, start
from attnbench.store import read_manifest, read_run

pytest.importorskip("ray", reason="Ray is not installed: pip install 'attnbench[ray]'")

BUDGET = MeasureConfig(budget_s=0.2, warm_up_max_s=0.1)
MOST_S = 120.0  # that a node may take to begin
LOOK_EVERY_S = 0.05


@pytest.fixture(scope="module")
def cluster():
    """Start a head that runs no task; each test adds its nodes."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "USAGE_STATS_ENABLED": "0",
            "ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "TMPDIR": "/tmp",  # noqa: S108 - a socket's path must be short
        }.items():
            patch.setenv(f"RAY_{name}", value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        yield made
        made.shutdown()


def add_node(cluster, type_):
    """Add a node with one core that bears a type's label."""
    return cluster.add_node(num_cpus=1, labels={TYPE: type_}, object_store_memory=100 * 1024 * 1024)


def processes(node):
    """Give all processes under a node in which variants are measured."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [one for one in raylet.children(recursive=True) if "attnbench.isolation.forkserver_main" in one.cmdline()]


def sweep(tmp_path, cluster, types, seqs, listener=None):
    """Run naive and sdpa on some types of nodes of a cluster; gives the run's folder and the summary."""
    executor = ClusterExecutor(RayCluster(cluster.address), types)
    request = Request(
        variants=["naive", "sdpa"],
        axes={"heads": [2], "seq": seqs, "head_dim": [8]},
        protocol=BUDGET,
        results=tmp_path,
        name="run",
        every_device=True,
    )
    catalog, plan = plan_of(request, executor)
    run = start(request, catalog, plan)
    return run, execute(run, catalog, plan, executor=executor, listener=listener)


def test_each_type_of_node_measures_the_plan(tmp_path, cluster):
    """Two types of nodes do all cells each, and the records bear the type and what its machine is."""
    types = ["left", "right"]
    for type_ in types:
        add_node(cluster, type_)
    run, summary = sweep(tmp_path, cluster, types, [16])
    assert summary.statuses == {"ok": 4}
    done = [(record.device, record.variant, record.workload.seq_q) for record in read_run(run).records]
    assert sorted({device for device, _, _ in done}) == ["cpu:left", "cpu:right"]
    assert len(set(done)) == 4
    assert all(record.samples_ns for record in read_run(run).records)
    assert read_manifest(run)["fleet"]["executor"] == "ray"


def test_the_cells_of_a_node_that_is_killed_run_on_another_of_its_type(tmp_path, cluster, monkeypatch):
    """A node dies while it measures; what it had under way is measured by another, and nothing is lost."""
    nodes = {}
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))  # where a node's tasks keep what they measure
        nodes[name] = add_node(cluster, "core")
    victims = []

    def kill():
        deadline = time.monotonic() + MOST_S
        while time.monotonic() < deadline:
            for name, node in nodes.items():
                if any((tmp_path / name).glob("attnbench-*/run/manifest.json")) and processes(node):
                    victims.extend(processes(node))
                    cluster.remove_node(node, allow_graceful=False)
                    return
            time.sleep(LOOK_EVERY_S)

    killer = threading.Thread(target=kill)
    killer.start()
    begun, listener = [], RunListener()
    listener.cell_started = begun.append
    run, summary = sweep(tmp_path, cluster, ["core"], [16, 24, 32], listener)
    killer.join()
    assert victims, "no node was killed at work"
    assert summary.statuses == {"ok": 6}
    assert len(begun) > 6, "what the killed node had under way began once more"
    cells = [record.cell_id for record in read_run(run).records if not record.control]
    assert len(cells) == len(set(cells)) == 6
    assert not psutil.wait_procs(victims, timeout=10)[1], "the killed node's workers ended with it"


@pytest.mark.parametrize(
    ("address", "told"),
    [("127.0.0.1:1", r"no Ray cluster answers at '127\.0\.0\.1:1'"), ("nowhere", r"expected host:port, or auto")],
)
def test_an_address_at_which_nothing_answers_is_bad_usage(address, told):
    """It is told with the address at once, and nothing is started in its place."""
    with pytest.raises(UsageError, match=told):
        RayCluster(address)
