from __future__ import annotations

import importlib
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, Workload, reference
from attnbench.conformance.layer_gate import Rows, layer_reference
from attnbench.errors import MeasurementError
from attnbench.measure.anticheat.integrity import ANSWER_MODULES, ProcessState, harness_answers_called
from attnbench.measure.sampler import Sampler
from attnbench.measure_config import MeasureConfig
from attnbench.messages import (
    Block,
    BlockRequest,
    CloseReply,
    CloseRequest,
    OpenReply,
    OpenRequest,
    ProfileReply,
    ProfileRequest,
)
from attnbench.tensors.inputs import make_inputs
from attnbench.tensors.layer import make_layer_inputs
from attnbench.worker import cell

WORKLOAD = Workload(heads=2, seq_q=16, head_dim=8, mask="causal")
PACK = Path(__file__).parent.parent / "mutants" / "dishonest"


@pytest.mark.parametrize("name", ANSWER_MODULES)
def test_modules_with_answers_can_be_imported(name):
    """Each listed module that variants must not call can be imported by its name, so calls to it are recognised."""
    assert importlib.import_module(name).__name__ == name


def test_a_call_of_the_reference_is_named():
    """If a callable calls the reference, the finding gives the full name of the called function."""
    inputs = make_inputs(WORKLOAD, "cpu")
    (finding,) = harness_answers_called(lambda: reference.attend(WORKLOAD, inputs))
    assert "fall-back to the reference: the callable called attnbench.reference." in finding


def test_a_call_of_the_conformance_suite_is_named():
    """If a callable calls the conformance suite, the finding gives the full name of the called function."""
    workload = Workload(heads=2, seq_q=8, head_dim=4, embed_dim=8)
    inputs = make_layer_inputs(workload, "cpu", "BHSD", 0)
    rows = Rows(0, torch.arange(8))
    (finding,) = harness_answers_called(lambda: layer_reference(workload, inputs, rows, torch.float64, gradients=False))
    assert "the callable called attnbench.conformance." in finding


def test_a_call_of_torch_alone_is_no_finding():
    """A callable that only calls torch operators produces no finding, and the previous profiler is restored."""
    inputs = make_inputs(WORKLOAD, "cpu")
    seen = []
    sys.setprofile(lambda *event: seen.append(event))
    try:
        profiler = sys.getprofile()
        assert harness_answers_called(lambda: inputs.query @ inputs.key.mT) == []
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)


def test_the_fall_back_of_the_dishonest_pack_is_refused():
    """If a variant falls back to the reference when its kernel fails, the warm-up raises MeasurementError."""
    spec = importlib.util.spec_from_file_location("fall_back", PACK / "falls_back_to_the_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    inputs = make_inputs(WORKLOAD, "cpu")
    call = module.Dishonest().prepare(WORKLOAD, inputs)
    sampler = Sampler(call, inputs, WORKLOAD, "cpu", MeasureConfig(warm_up_max_s=0.1))
    sampler.first_call()
    with pytest.raises(MeasurementError, match="fall-back to the reference"):
        sampler.warm_up()


def test_a_worker_watches_all_modules_that_measure_and_judge():
    """Before loading plugins, workers load all modules that measure or check, to detect replaced functions."""
    code = (
        "import json, attnbench.worker.cell\n"
        "from attnbench.measure.anticheat.monkeypatch import MonkeypatchDetector\n"
        "print(json.dumps(sorted(MonkeypatchDetector()._modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    watched = set(json.loads(done.stdout))
    package = Path(reference.__file__).parent
    measuring = {
        f"attnbench.{path.relative_to(package).with_suffix('').as_posix().replace('/', '.')}"
        for folder in ("measure", "tensors")
        for path in (package / folder).rglob("*.py")
        if path.stem not in ("__init__", "peaks", "alignment")  # not used in the measurement of a cell
    }
    assert len(measuring) > 10
    assert measuring | {"attnbench.reference", "attnbench.messages", "attnbench.conformance.gate"} <= watched


class TestCallingContext:
    """A variant's calling context may choose SDPA backends, and nothing else."""

    def test_pinned_backends_are_no_change(self):
        """Within the calling context, the pinned backends are accepted; a further change and a leak are findings."""
        state = ProcessState()
        with state.calling(sdpa_kernel(SDPBackend.MATH)):
            assert state.changes() == []
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                (finding,) = state.changes()
                assert "SDPA backends changed" in finding
        assert state.changes() == []
        with sdpa_kernel(SDPBackend.MATH):
            assert len(state.changes()) == 1

    def test_other_flags_are_changes(self):
        """If the calling context changes another global flag, such as the precision of matmul, this is a finding."""

        @contextmanager
        def lowered():
            torch.set_float32_matmul_precision("medium")
            yield
            torch.set_float32_matmul_precision("highest")

        state = ProcessState()
        with state.calling(lowered()):
            assert any("matmul precision" in finding for finding in state.changes())

    def test_a_session_enters_the_context_once_for_each_request(self, monkeypatch):
        """A worker enters the context once for each request, around the preparation, the calls and the checks."""
        events = []

        class Recorded(Variant):
            name = "recorded"

            @contextmanager
            def calling_context(self):
                events.append("enter")
                yield
                events.append("leave")

            def prepare_function(self, workload, inputs):
                events.append("prepare")

                def attend(query, key, value):
                    if events[-1] != "call":
                        events.append("call")
                    return scaled_dot_product_attention(query, key, value)

                return attend

        monkeypatch.setattr(cell, "variant_of", lambda source, name: Recorded())
        session = cell.Session(lambda phase: None, None, "recorded", "cpu")
        config = MeasureConfig(warm_up_max_s=0.01, warm_up_min_s=0.0)
        opened = session.operations[OpenRequest](OpenRequest(Workload(heads=1, seq_q=8, head_dim=8), config))
        assert isinstance(opened, OpenReply), opened
        assert isinstance(session.operations[BlockRequest](BlockRequest(1e6)), Block)
        assert isinstance(session.operations[CloseRequest](CloseRequest()), CloseReply)
        assert isinstance(session.operations[ProfileRequest](ProfileRequest()), ProfileReply)
        assert events == ["enter", "prepare", "call", "leave", *["enter", "call", "leave"] * 3]
