"""A real Ray cluster of four nodes on this machine: a head without devices, two nodes of one type, one of another."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from attnbench.errors import UsageError
from attnbench.measure.protocol import Protocol
from attnbench.runner.execute import Request, execute, plan_of, resumed, start
from attnbench.runner.fleet import Fleet
from attnbench.runner.ray_cluster import RayCluster
from attnbench.store import read_manifest, read_run

pytest.importorskip("ray", reason="RAY IS NOT INSTALLED: no fleet is tested (pip install 'attnbench[ray]')")

QUICK = Protocol(budget_s=0.1, min_blocks=2, block_s=0.01, min_time_s=0.01, warm_up_max_s=0.1, interleave=False)
TYPE = "ray.io/accelerator-type"
IMPATIENT = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
HANGS_ONCE = """
import os, time
from pathlib import Path
from attnbench import Variant, hookimpl
from torch.nn.functional import scaled_dot_product_attention

class HangsOnce(Variant):
    name = "hangs-once"

    def prepare(self, workload, inputs):
        mark = Path("{mark}")
        if workload.seq_q == 24 and not mark.exists():
            mark.write_text(str(os.getpid()))
            time.sleep(600)
        return lambda: scaled_dot_product_attention(inputs.query, inputs.key, inputs.value)

@hookimpl
def attnbench_variants():
    return [HangsOnce()]
"""


@pytest.fixture(scope="module")
def cluster():
    """Start the nodes once for the file."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        patch.setenv("PYTHONPATH", path)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": IMPATIENT},
        )
        for type_ in ("alpha", "alpha", "beta"):
            made.add_node(num_cpus=1, labels={TYPE: type_})
        yield made
        made.shutdown()


def kill_the_node_that_hangs(cluster, mark):
    """Wait until the variant hangs somewhere, and kill that machine: its raylet and all below."""
    deadline = time.monotonic() + 120
    while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    above = {process.pid for process in psutil.Process(int(mark.read_text())).parents()}
    for node in list(cluster.worker_nodes):
        if node.all_processes["raylet"][0].process.pid in above:
            cluster.remove_node(node, allow_graceful=False)
            return


def test_a_plan_runs_on_each_type_and_outlives_a_machine(cluster, tmp_path):
    """Each type measures the whole plan; a group whose machine is killed runs on another of the type; all is stored."""
    mark = tmp_path / "mark"
    plugin = tmp_path / "hanging.py"
    plugin.write_text(HANGS_ONCE.format(mark=mark))
    request = Request(
        variants=["hangs-once"],
        plugins=[str(plugin)],
        axes={"heads": [1], "seq": [16, 24], "head_dim": [8]},
        protocol=QUICK,
        results=tmp_path / "results",
        name="r",
        every_device=True,
    )
    executor = Fleet(RayCluster(cluster.address), ["alpha", "beta"], request.plugins)
    catalog, plan = plan_of(request, executor)
    assert [device.name for device in plan.devices] == ["cpu:alpha", "cpu:beta"]
    run = start(request, catalog, plan)
    killer = threading.Thread(target=kill_the_node_that_hangs, args=(cluster, mark))
    killer.start()
    summary = execute(run, catalog, plan, executor=executor)
    killer.join()

    assert len(cluster.worker_nodes) == 2, "no machine was killed"
    assert dict(summary.statuses) == {"ok": 4}
    records = read_run(run).records
    measured = sorted((record.device, record.workload.seq_q) for record in records)
    assert measured == [("cpu:alpha", 16), ("cpu:alpha", 24), ("cpu:beta", 16), ("cpu:beta", 24)]
    assert all(record.telemetry["host"] and record.telemetry["device"].startswith("cpu:") for record in records)
    assert {record.cell_id for record in records} == {cell.cell_id for cell in plan.cells}
    manifest = read_manifest(run)
    assert manifest["limits"]["cpu:beta"]["float32"]
    assert manifest["fleet"]["executor"] == "ray"
    assert {path.name for path in run.glob("records-*")} == {"records-cpu-alpha.jsonl", "records-cpu-beta.jsonl"}

    again = Fleet(RayCluster(cluster.address), [], request.plugins)
    try:
        assert resumed(run, executor=again)[1].cells == ()
        with pytest.raises(UsageError, match="unknown type of device 'gamma'"):
            Fleet(again._cluster, ["gamma"]).devices([])
    finally:
        again._cluster.stop()


def test_the_command_lists_the_machines_of_a_fleet(cluster):
    """`attnbench devices --executor ray` names every machine that is alive, with its type and how many devices."""
    command = [
        sys.executable,
        "-m",
        "attnbench",
        "devices",
        "--executor",
        "ray",
        "--address",
        cluster.address,
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["device"] for row in rows if row["devices"]} == {"cpu:alpha", "cpu:beta"}


def test_without_an_address_ray_is_started_by_the_command(tmp_path):
    """The command starts Ray, runs its cells, ends Ray, and what it stored is complete."""
    shape = ["--heads", "1", "--seq", "16", "--head-dim", "8", "--budget", "0.05"]
    command = [sys.executable, "-m", "attnbench", "run", "--executor", "ray", "-v", "naive", *shape]
    command += ["--results", str(tmp_path), "--name", "r"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [record for record in read_run(Path(tmp_path) / "r").records if not record.control]
    assert [(record.status, record.device) for record in records] == [("ok", "cpu:any")]
