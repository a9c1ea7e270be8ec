"""The command that measures a cell again, and the workload ids in such commands."""

import shlex

import pytest

from attnbench import Workload
from attnbench.cli.app import app
from attnbench.errors import UsageError, WorkloadError
from attnbench.measure_config import MeasureConfig
from attnbench.plan.rerun import rerun_command
from attnbench.runner import request as request_module
from attnbench.runner.request import Request, plan_of
from attnbench.runner.run import manifest_of
from attnbench.workloads.suite import built_in_suites

SUITES = built_in_suites()
AXES = Workload(
    batch=2, heads=8, kv_heads=2, seq_q=1, seq_k=77, head_dim=64, head_dim_v=32, dtype="bfloat16", mask="window:8:0",
    direction="backward", scale=1e-05, softcap=50.0, alibi=True, dropout=0.1,
)  # fmt: skip


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_a_workload_is_read_from_its_id(suite):
    """For every workload of every suite, parsing the workload's id returns the workload."""
    for workload in SUITES[suite].workloads:
        assert Workload.parse(workload.id) == workload


def test_an_id_carries_every_axis():
    """An id contains every field that differs from its default, including a scale that is written with an exponent."""
    assert Workload.parse(AXES.id) == AXES


@pytest.mark.parametrize("text", ["", "b1", "b1-h8-s512-d64-float32-causal", "b1-h8-s512-d64-float32-causal-forward-x"])
def test_a_malformed_id_is_refused_with_an_example(text):
    """A string that is not a workload id is rejected with a message that shows an example."""
    with pytest.raises(WorkloadError, match="expected an id such as b1-h8-s512-d64-float32-causal-forward"):
        Workload.parse(text)


def test_a_wrong_field_of_an_id_is_named():
    """An id with an unknown dtype is rejected with a message that names the dtype."""
    with pytest.raises(WorkloadError, match="unknown dtype 'float8'"):
        Workload.parse("b1-h8-s512-d64-float8-causal-forward")


@pytest.fixture
def planned(monkeypatch):
    """Return a function that runs a command until it has made a plan, and returns the plan."""

    def plan(command):
        plans = []

        class Planned(Exception):  # noqa: N818 - raised to leave the command, not because of an error
            pass

        def caught(request, *_):
            plans.append(plan_of(request)[1])
            raise Planned

        monkeypatch.setattr(request_module, "plan_of", caught)
        with pytest.raises(Planned):
            app(args=shlex.split(shlex.join(command))[1:], standalone_mode=False)
        return plans[0]

    return plan


def test_the_command_plans_the_same_cell_for_every_workload_of_every_suite(planned):
    """For every workload of every suite, the rerun command plans one cell, with the cell_id of the original cell.

    The original run has a budget of 0.3 s, a precision of 1%, the mode `cold` and no interleaving.
    """
    request = Request(
        suites=sorted(SUITES), variants=["naive"], devices=["cpu"], budget_s=0.3,
        protocol=MeasureConfig(precision=0.01, interleave=False, mode="cold"),
    )  # fmt: skip
    catalog, plan = plan_of(request)
    manifest = manifest_of("r", request, catalog, plan)
    commands = [rerun_command("naive", cell.workload, "cpu", manifest) for cell in plan.cells]
    head, tail = commands[0][: commands[0].index("--workload")], commands[0][commands[0].index("--workload") + 2 :]
    ids = [cell.workload.id for cell in plan.cells]
    assert commands == [[*head, "--workload", name, *tail] for name in ids]
    together = [*head, "--workload", ",".join(ids), *tail]
    assert [cell.cell_id for cell in planned(together).cells] == [cell.cell_id for cell in plan.cells]
    assert [cell.cell_id for cell in planned(commands[-1]).cells] == [plan.cells[-1].cell_id]


def test_the_command_names_the_plugins_of_the_run(planned, tmp_path):
    """If the run loaded the variant from a --plugin file, the rerun command has the same --plugin option."""
    plugin = tmp_path / "my attn.py"
    plugin.write_text(
        "from attnbench import hookimpl, variant\n"
        "@variant('mine')\ndef mine(query, key, value, workload):\n    return value\n"
        "@hookimpl\ndef attnbench_variants():\n    return [mine]\n"
    )
    request = Request(workloads=[AXES.id], variants=["mine"], devices=["cpu"], plugins=[str(plugin)])
    catalog, plan = plan_of(request)
    command = rerun_command("mine", AXES, "cpu", manifest_of("r", request, catalog, plan))
    assert command[-2:] == ["--plugin", str(plugin)]
    assert planned(command).cells == plan.cells


def test_an_axis_beside_workload_ids_is_refused():
    """An axis option together with --workload is rejected with a message that names the option."""
    with pytest.raises(UsageError, match="which --head-dim would change"):
        plan_of(Request(workloads=[AXES.id], axes={"head_dim": [8]}, devices=["cpu"]))
