from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnbench import Workload, reference
from attnbench.conformance.layer_gate import Rows, layer_reference
from attnbench.errors import MeasurementError
from attnbench.measure.anticheat.integrity import ANSWER_MODULES, harness_answers_called
from attnbench.measure.sampler import Sampler
from attnbench.measure_config import MeasureConfig
from attnbench.tensors.inputs import make_inputs
from attnbench.tensors.layer import make_layer_inputs

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
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    watched = set(json.loads(done.stdout))
    package = Path(reference.__file__).parent
    measuring = {
        f"attnbench.{path.relative_to(package).with_suffix('').as_posix().replace('/', '.')}"
        for folder in ("measure", "tensors")
        for path in (package / folder).rglob("*.py")
        if path.stem not in ("__init__", "peaks")
    }
    assert len(measuring) > 10
    assert measuring | {"attnbench.reference", "attnbench.messages", "attnbench.conformance.gate"} <= watched
