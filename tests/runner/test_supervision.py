"""If a worker fails, the failure is recorded for the current cell, and the run continues.

The tests use stand-in workers, which misbehave on request.
"""

from dataclasses import replace

import pytest

from attnbench import Workload, store
from attnbench.errors import UsageError
from attnbench.isolation import worker_process
from attnbench.plan.devices import Device
from attnbench.runner import cell_limits as limits
from attnbench.runner import local_executor
from attnbench.runner.cell_limits import CellLimits
from attnbench.runner.request import plan_of
from attnbench.runner.resume import resumed
from attnbench.runner.run import execute, start
from stubbed_runs import PROCESSES, SHORTEST

CUDA_ERROR = {
    "type": "FailedReply",
    "status": "error",
    "phase": "measure",
    "reason": "AcceleratorError: CUDA error: an illegal memory access",
}
LOST_GPU = {"type": "FailedReply", "status": "incorrect", "phase": "conform", "reason": "row 3", "gpu_lost": True}
BLOCK = {"type": "Block", "samples_ns": [1.0], "calls_per_sample": 1, "wall_ns": 1}


@pytest.mark.parametrize(
    ("operation", "phase"),
    [
        ("load", "import"),
        ("open", "prepare"),
        ("open", "first_call"),
        ("open", "conform"),
        ("open", "warm_up"),
        ("block", "measure"),
        ("close", "memory"),
    ],
)
@pytest.mark.usefixtures("simulated_deadlines")
def test_each_phase_has_a_deadline(stubbed, outcomes, operation, phase):
    """A phase that exceeds its deadline is recorded as a timeout, and the other variant is still measured."""
    stubbed.behave(alpha={operation: f"hang:{phase}"})
    run, _ = stubbed.run()
    record = outcomes(run)["alpha", 16]
    assert (record.status, record.phase) == ("timeout", phase)
    assert f"deadline of phase {phase}" in record.reason
    assert outcomes(run)["beta", 16].status == "ok"


def test_the_timeout_option_applies_to_every_phase_except_loading():
    """`--timeout` applies to each phase of a cell except the import of torch, which keeps its default deadline."""
    cell_limits = CellLimits(timeout_s=5.0)
    assert {cell_limits.deadline_s(phase) for phase in ("prepare", "conform", "warm_up", "measure")} == {5.0}
    assert cell_limits.deadline_s("import") == CellLimits().deadline_s("import") > 5.0


def test_large_workloads_have_more_time_for_tuning():
    """The deadlines of prepare and of the first call allow for 200 calls, each of which takes at most 20 seconds."""
    small, large = (Workload(heads=32, seq_q=length, head_dim=128, dtype="bfloat16") for length in (512, 1 << 17))
    defaults = CellLimits()
    assert defaults.deadline_s("prepare", small) == pytest.approx(limits.DEADLINES_S["prepare"], rel=0.01)
    for phase in ("prepare", "first_call"):
        tuning_s = defaults.deadline_s(phase, large) - defaults.deadline_s(phase)
        assert tuning_s == pytest.approx(200 * large.flops() / 5e13)
        huge = replace(large, seq_q=1 << 22, seq_k=1 << 22)
        assert defaults.deadline_s(phase, huge) - defaults.deadline_s(phase) == pytest.approx(200 * 20.0)
    assert defaults.deadline_s("measure", large) == defaults.deadline_s("measure")
    assert CellLimits(timeout_s=5.0).deadline_s("prepare", large) == 5.0


def test_a_cell_has_the_deadline_of_its_workload(stubbed, outcomes, monkeypatch):
    """While a cell is open, its workload extends the deadline of prepare."""
    monkeypatch.setitem(limits.DEADLINES_S, "prepare", 0.0)
    monkeypatch.setitem(limits.SLOW_FLOPS_PER_S, "float32", 1.0)
    stubbed.behave(alpha={"open": "phase:prepare"})
    run, _ = stubbed.run()
    assert outcomes(run)["alpha", 16].status == "ok"


@pytest.mark.parametrize(
    ("operation", "reply", "reason"),
    [
        ("open", "raw", "wrote to the results pipe"),
        ("block", "flood", "a reply is over"),
        ("block", {"type": "Block", "samples_ns": [float("nan")]}, "wrote to the results pipe"),
        ("open", {"type": "OpenReply"}, "does not fit: ValidationError: Object missing required field"),
        (
            "open",
            {"type": "OpenReply", "call_ns": "soon", "first_call_ns": 1, "error": {}},
            "does not fit: ValidationError: Expected `float`, got `str`",
        ),
        ("open", {"type": "FailedReply", "status": "sparkling", "phase": "x", "reason": "x"}, "enum value 'sparkling'"),
        ("open", {"type": "FailedReply", "status": "error", "phase": "x" * 1001, "reason": "x"}, "values: RecordError"),
        ("open", {"state": "ready"}, "does not fit: ValidationError: Object missing required field `type`"),
        ("open", {"type": "DoneReply"}, "the worker sent an unexpected DoneReply"),
        ("load", {"type": "CloseReply"}, "the worker sent an unexpected CloseReply"),
        ("block", {**BLOCK, "samples_ns": ["x"]}, "does not fit: ValidationError: Expected `float`, got `str`"),
        ("block", {**BLOCK, "samples_ns": [-1.0]}, "does not fit: ValidationError: Expected `float` > 0.0"),
        ("block", {**BLOCK, "samples_ns": []}, "does not fit: ValidationError: Expected `array` of length >= 1"),
        ("block", {**BLOCK, "samples_ns": [1e-9]}, "invalid values: RecordError"),
        ("block", {**BLOCK, "samples_ns": [1e12], "wall_ns": 1e12}, "patched clock"),
        ("close", {"type": "CloseReply", "memory": 1}, "does not fit: ValidationError: Object contains unknown field"),
        ("close", {"type": "CloseReply", "peak_bytes": 2**63}, "invalid values: RecordError"),
    ],
)
def test_a_forged_oversized_or_malformed_reply_is_an_error(stubbed, outcomes, monkeypatch, operation, reply, reason):
    """A reply that is forged, too large or malformed is recorded as an error, and all other cells are measured."""
    monkeypatch.setattr(worker_process, "MAX_REPLY_BYTES", 1 << 16)
    stubbed.behave(alpha={operation: reply})
    run, summary = stubbed.run()
    record = outcomes(run)["alpha", 16]
    assert record.status == "error"
    assert reason in record.reason
    assert outcomes(run)["beta", 16].status == "ok"
    assert summary.failed == 1


def test_suspect_times_are_flagged_with_their_reason(stubbed, outcomes):
    """A suspicion at the end of a cell leaves its times in the record, with the flag `suspect` and the reason."""
    suspicions = [{"kind": "suspect", "text": "cached output? To check, read the variant"}]
    stubbed.behave(alpha={"close": {"type": "CloseReply", "suspicions": suspicions}})
    run, _ = stubbed.run()
    record = outcomes(run)["alpha", 16]
    assert (record.status, record.flags, record.reason) == ("ok", ("suspect",), suspicions[0]["text"])
    assert record.samples_ns
    assert outcomes(run)["beta", 16].reason is None


def test_a_time_far_below_the_roofline_is_suspect(stubbed, outcomes):
    """A time that the device's measured rates do not allow is flagged `suspect`, although all checks passed."""
    lazy = {"type": "Block", "samples_ns": [2.0], "calls_per_sample": 1, "wall_ns": 10}
    stubbed.behave(alpha={"block": lazy})
    run, _ = stubbed.run()
    record = outcomes(run)["alpha", 16]
    assert (record.status, record.flags) == ("ok", ("suspect",))
    assert record.reason.startswith("too fast: a call took 0.002 us, but")
    assert outcomes(run)["beta", 16].flags == ()


def test_after_three_crashes_a_variant_is_not_tried_again(stubbed, outcomes):
    """After three crashes of a variant, its remaining cells are recorded as crashes without being started."""
    stubbed.behave(alpha={"block": "segfault"})
    run, _ = stubbed.run(seq=(16, 24, 32, 40, 48))
    records = outcomes(run)
    assert ["SIGSEGV" in records["alpha", length].reason for length in (16, 24, 32)] == [True] * 3
    for length in (40, 48):
        assert records["alpha", length].status == "crash"
        assert records["alpha", length].reason == "not tried: 3 cells of alpha crashed"
    assert {length for name, length, _ in stubbed.opened() if name == "alpha"} == {16, 24, 32}
    assert all(records["beta", length].status == "ok" for length in (16, 24, 32, 40, 48))


def test_after_a_cuda_error_each_variant_is_tried_again_in_a_new_worker(stubbed, outcomes, tmp_path):
    """After a CUDA error, a cell is measured again, alone and in a new worker.

    In this test, the second attempt fails for alpha and succeeds for beta.
    """
    stubbed.behave(alpha={"block": CUDA_ERROR}, beta={"block": {"once": str(tmp_path / "met"), "do": CUDA_ERROR}})
    run, _ = stubbed.run("alpha", "beta", "gamma")
    records = outcomes(run)
    assert "CUDA error" in records["alpha", 16].reason
    assert records["beta", 16].status == "ok"
    assert "not_interleaved" in records["beta", 16].flags
    assert "not_interleaved" not in records["gamma", 16].flags
    workers = {name: [worker for other, _, worker in stubbed.opened() if other == name] for name in ("alpha", "beta")}
    assert all(len(set(used)) >= 2 for used in workers.values())
    assert len(outcomes(run)) == 3


def test_no_block_is_timed_in_a_process_whose_profiler_is_still_attached(stubbed, outcomes):
    """If a profiler stays attached to its worker, the next cell is timed in a new worker; otherwise in the same one."""
    attached = {"type": "ProfileReply", "kernels": ["flash"], "detached": False}
    stubbed.behave(alpha={"profile": attached})
    run, _ = stubbed.run("alpha", "beta", seq=(16, 24, 32), protocol=replace(SHORTEST, interleave=False))
    workers = {}
    for name, _, process in stubbed.opened():
        workers.setdefault(name, []).append(process)
    assert len(set(workers["alpha"])) == 3
    assert len(set(workers["beta"])) == 1
    assert {record.kernels for (name, _), record in outcomes(run).items() if name == "alpha"} == {("flash",)}
    detached = {name: record.telemetry["profiler_detached"] for (name, _), record in outcomes(run).items()}
    assert detached == {"alpha": False, "beta": True}


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        ("segfault", "the worker was lost: killed by SIGSEGV in phase"),
        ("hang:profile", "the worker was lost: no reply within the deadline of phase profile"),
        ({"type": "FailedReply", "status": "error", "phase": "profile", "reason": "CUPTI_ERROR"}, "CUPTI_ERROR"),
        ({"type": "CloseReply"}, "the worker sent an unexpected CloseReply"),
    ],
    ids=["crash", "hang", "error", "reply"],
)
@pytest.mark.usefixtures("simulated_deadlines")
def test_a_failed_profile_does_not_lose_the_measured_times(stubbed, outcomes, profile, reason):
    """If the profile fails, the cell's times are kept, and the record gives the reason why the kernels are unknown."""
    stubbed.behave(alpha={"profile": profile})
    run, _ = stubbed.run("alpha", "beta")
    record = outcomes(run)["alpha", 16]
    assert (record.status, record.kernels) == ("ok", None)
    assert reason in record.telemetry["kernels_reason"]
    assert outcomes(run)["beta", 16].kernels == ("stub",)


@pytest.fixture
def gpus(monkeypatch):
    """Simulate a machine with two GPUs of one model and a third GPU of another model."""
    models = {"cuda:0": "H200", "cuda:1": "H200", "cuda:2": "L4"}
    known = {name: Device(name, model, f"GPU-{name}", "570.1") for name, model in models.items()}
    monkeypatch.setattr(local_executor, "choose_devices", lambda names: [known[name] for name in names])


def test_devices_of_one_model_share_the_cells(stubbed, outcomes, gpus):
    """Each cell is measured on one device only, and all variants of a workload are measured on the same device."""
    run, summary = stubbed.run(seq=tuple(range(16, 160, 8)), devices=["cuda:0", "cuda:1"])
    records = outcomes(run)
    assert summary.statuses == {"ok": 36} == store.statuses(run)
    assert len(stubbed.opened()) == 36 * PROCESSES
    assert {record.device for record in records.values()} == {"cuda:0", "cuda:1"}
    assert all(records["alpha", length].device == records["beta", length].device for length in range(16, 160, 8))


def test_devices_that_share_cells_take_the_longest_first(stubbed, gpus):
    """Several devices of one model take the longest workloads first. A single device keeps the order of the plan."""
    stubbed.run("alpha", seq=(16, 24, 32, 40, 48, 56), devices=["cuda:0", "cuda:1"])
    assert {length for _, length, _ in stubbed.opened()[:2]} <= {48, 56}
    stubbed.log.unlink()
    stubbed.run("alpha", seq=(16, 24, 32), devices=["cuda:2"], name="alone")
    assert [length for _, length, _ in stubbed.opened()] == [16, 16, 24, 24, 32, 32]


def test_another_device_of_its_model_replaces_one_that_is_gone(stubbed, outcomes, gpus, monkeypatch):
    """If a GPU of a run is no longer available, the run is resumed on another GPU of the same model."""
    request = stubbed.request(devices=["cuda:0", "cuda:1"])
    run = start(request, *plan_of(request))
    known = Device("cuda:1", "H200", "GPU-cuda:1", "570.1")

    def present(names):
        if names != ["cuda:1"]:
            raise UsageError(f"device {names[0]!r} is not here")
        return [known]

    monkeypatch.setattr(local_executor, "choose_devices", present)
    execute(run, *resumed(run))
    assert {(record.device, record.status) for record in outcomes(run).values()} == {("cuda:1", "ok")}
    monkeypatch.setattr(local_executor, "choose_devices", lambda names: present(["none"]))
    with pytest.raises(UsageError, match="is not here"):
        resumed(run)


def test_every_device_measures_all_cells_on_request(stubbed, gpus):
    """With `--every-device`, each device measures every cell, and resuming measures the missing cells."""
    run, summary = stubbed.run(devices=["cuda:0", "cuda:1"], every_device=True)
    assert summary.statuses == {"ok": 4} == store.statuses(run)
    (run / "records-cuda-1.jsonl").unlink()
    assert [cell.device.name for cell in resumed(run)[1].cells] == ["cuda:1"] * 2


def test_a_worker_that_lost_its_gpu_is_replaced(stubbed, outcomes):
    """After a reply that says that the worker has ended, the variant's next cell runs in a new worker.

    After the same reply from a worker that has not ended, the next cell runs in the same worker.
    """
    for name, reply, workers in (("lost", LOST_GPU, 2), ("kept", {**LOST_GPU, "gpu_lost": False}, 1)):
        stubbed.log.unlink(missing_ok=True)
        stubbed.behave(alpha={"16": {"open": reply}})
        run, _ = stubbed.run("alpha", seq=(16, 32), name=name)
        found = outcomes(run)
        assert (found["alpha", 16].status, found["alpha", 16].reason) == ("incorrect", "row 3")
        assert found["alpha", 32].status == "ok"
        opened = [line.split() for line in stubbed.log.read_text().splitlines()]
        assert len({pid for operation, variant, _, pid in opened if operation == "open"}) == workers + 1  # the control
