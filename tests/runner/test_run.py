"""Execute complete runs with small plugins and short measurements."""

import json

import pytest

from attnbench.errors import UsageError
from attnbench.measure_config import MeasureConfig
from attnbench.plan.devices import choose_devices
from attnbench.plan.unsupported import unsupported_reasons
from attnbench.runner import locks
from attnbench.runner.request import Request, plan_of, refuse_nothing_to_time
from attnbench.runner.resume import resumed
from attnbench.runner.run import execute, start
from attnbench.runner.run_listener import RunListener
from attnbench.store import read_manifest, read_run, statuses

QUICK = MeasureConfig(budget_s=0.2, min_blocks=2, block_s=0.01, min_time_s=0.01, warm_up_max_s=0.2)
OBSERVED = """
    import json
    from pathlib import Path
    from attnbench import hookimpl, variant
    from torch.nn.functional import scaled_dot_product_attention

    NOTES = Path(__file__).with_suffix(".notes")

    @variant("own")
    def own(query, key, value, workload):
        return scaled_dot_product_attention(query, key, value)

    @hookimpl
    def attnbench_variants():
        return [own]

    def note(event, value):
        with NOTES.open("a") as file:
            file.write(json.dumps([event, value]) + "\\n")

    @hookimpl
    def attnbench_run_started(manifest):
        note("run_started", len(manifest["plan"]))

    @hookimpl
    def attnbench_cell_started(cell):
        note("cell_started", cell["variant"])

    @hookimpl
    def attnbench_record_stored(record):
        note("record_stored", record["status"])
        if record["variant"] == "naive":
            raise RuntimeError("the observer fails")

    @hookimpl
    def attnbench_run_ended(summary):
        note("run_ended", summary)
"""


@pytest.fixture
def request_of(tmp_path):
    """Return a function that builds a request for tiny cells."""

    def make(*variants, plugins=(), **fields):
        axes = {"heads": [2], "seq": [16], "head_dim": [8]}
        defaults = {"devices": ["cpu:0"], "axes": axes, "protocol": QUICK, "results": tmp_path / "results"}
        return Request(variants=list(variants), plugins=list(plugins), **{**defaults, **fields})

    return make


class RecordingListener(RunListener):
    """A listener that stores the findings of `attnbench doctor` and the observers' problems."""

    def __init__(self):
        self.problems, self.findings = [], []

    def run_started(self, manifest):
        self.findings = manifest["doctor"]

    def observer_failed(self, problem):
        self.problems.append(problem)


def test_a_run_is_observed_resumed_and_stale_when_its_plugin_changes(request_of, write_plugin, tmp_path):
    """Observers receive each event, a finished run has no missing cells, and editing a plugin makes its cells stale."""
    plugin = write_plugin("observed", OBSERVED)
    request = request_of("own", "naive", plugins=[plugin], name="r")
    catalog, plan = plan_of(request)
    run = start(request, catalog, plan)
    listener = RecordingListener()
    summary = execute(run, catalog, plan, listener=listener)
    assert dict(summary.statuses) == {"ok": 2} == statuses(run)

    notes = [json.loads(line) for line in (tmp_path / "observed.notes").read_text().splitlines()]
    assert notes[0] == ["run_started", 2]
    assert [value for event, value in notes if event == "cell_started"] == ["own", "naive"]
    assert notes[-1] == ["run_ended", {"ok": 2}]
    assert any(
        "observed: attnbench_record_stored raised RuntimeError: the observer fails" in problem
        for problem in listener.problems
    )
    assert listener.findings, "the manifest had no findings from attnbench doctor when the run started"

    records = read_run(run).records
    for record in records:
        assert len(record.samples_ns) == sum(record.block_sizes)
        assert record.kernels
    manifest = read_manifest(run)
    assert manifest["limits"]["cpu:0"]["float32"]
    assert manifest["doctor"]
    assert resumed(run)[1].cells == ()

    write_plugin("observed", OBSERVED + "\n    # edited\n")
    assert [cell.variant.name for cell in resumed(run)[1].cells] == ["own"]


def test_blocks_are_in_a_b_b_a_order(stubbed):
    """Every second round reverses the order of the variants, and the baseline is measured in every round."""
    run, _ = stubbed.run("alpha", "beta", "gamma")
    rounds = {record.variant: record.block_rounds for record in read_run(run).records}
    assert set(rounds["beta"]) <= set(rounds["alpha"])
    assert all(list(numbers) == list(range(len(numbers))) for numbers in rounds.values())
    blocks = [line.split()[1] for line in stubbed.log.open() if line.startswith("block")]
    assert blocks[:6] == ["alpha", "beta", "gamma", "gamma", "beta", "alpha"]


def test_only_sampling_counts_as_useful(stubbed):
    """The useful share of a run is the time of the blocks, without the conformance checks and all other phases."""
    _, summary = stubbed.run()
    assert summary.phase_s.keys() >= {"conform", "measure"}
    assert summary.useful_share * summary.wall_s == pytest.approx(summary.phase_s["measure"], abs=0.001)


def test_a_device_that_another_run_holds_is_refused(request_of):
    """Executing a run on a device that is in use raises a UsageError with the device's name."""
    request = request_of("naive")
    catalog, plan = plan_of(request)
    run = start(request, catalog, plan)
    with locks.hold(choose_devices(["cpu"])), pytest.raises(UsageError, match="device cpu:0 is in use by another"):
        execute(run, catalog, plan)


def test_a_workload_that_every_variant_refuses_leaves_the_others_as_they_are(stubbed, outcomes):
    """If all variants refuse one workload of a run, its records say why, and the other workloads are timed."""
    refusing = {"32": {"unsupported": "too long"}}
    stubbed.behave(alpha=refusing, beta=refusing)
    run, summary = stubbed.run("alpha", "beta", seq=(16, 32, 64))
    assert summary.statuses == {"ok": 4, "unsupported": 2}
    refused = {variant: outcomes(run)[variant, 32] for variant in ("alpha", "beta")}
    assert {record.reason for record in refused.values()} == {"too long"}


@pytest.mark.parametrize("count", [1, 5])
def test_a_plan_without_a_supported_cell_is_refused_with_a_few_of_the_reasons(stubbed, count):
    """The message names a variant with at most three of its reasons, and counts the others."""
    lengths = [16 * (number + 1) for number in range(count)]
    stubbed.behave(alpha={str(length): {"unsupported": f"no {length}"} for length in lengths})
    _, plan = plan_of(stubbed.request("alpha", seq=lengths))
    shown = {1: "alpha: no 16; choose", 5: "alpha: no 16; no 32; no 48; 2 more reasons; choose"}[count]
    with pytest.raises(UsageError, match=f"^nothing to time: {shown} other variants"):
        refuse_nothing_to_time(plan, unsupported_reasons(plan))
