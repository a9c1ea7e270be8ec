"""Settings of a measurement: JSON, ids, defaults and errors."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from attnbench.errors import UsageError
from attnbench.measure_config import MeasureConfig


def test_a_config_survives_json():
    """A config that is converted to JSON text and back equals the original."""
    config = MeasureConfig(precision=0.01, mode="cold", seed=3)
    assert MeasureConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_every_setting_changes_the_id():
    """Changing any field changes the id, and equal settings have equal ids."""
    other = {
        "precision": 0.1, "budget_s": 9.0, "min_samples": 9, "min_time_s": 9.0, "min_blocks": 4, "block_s": 9.0,
        "processes": 7, "interleave": False, "mode": "cold", "seed": 9, "warm_up_min_s": 9.0, "warm_up_max_s": 9.0,
        "confidence": 0.9,
    }  # fmt: skip
    assert set(other) == {spec.name for spec in dataclasses.fields(MeasureConfig)}
    ids = {MeasureConfig(**{name: value}).protocol_id for name, value in other.items()}
    assert len(ids | {MeasureConfig().protocol_id}) == len(other) + 1
    assert MeasureConfig().protocol_id == MeasureConfig().protocol_id


def test_precision_depends_on_the_device():
    """The default precision is 0.5% on CUDA and 2% on CPU; an explicit precision applies to both."""
    assert (MeasureConfig().precision_on("cuda:1"), MeasureConfig().precision_on("cpu")) == (0.005, 0.02)
    assert MeasureConfig(precision=0.1).precision_on("cpu") == 0.1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", 0), ("precision", 1.5), ("precision", float("nan")), ("budget_s", -1), ("budget_s", float("inf")),
        ("min_samples", 0), ("min_blocks", 2.5), ("mode", "cool"), ("block_s", 0), ("confidence", 1.0),
        ("min_samples", True), ("warm_up_max_s", "3"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(field, value):
    """A value that is out of range raises a UsageError that names the setting."""
    with pytest.raises(UsageError, match=field):
        MeasureConfig(**{field: value})


def test_an_unknown_field_names_the_nearest_one():
    """A misspelt field in JSON raises a UsageError that suggests the nearest name."""
    with pytest.raises(UsageError, match="budget_s"):
        MeasureConfig.from_json({"budgets": 3})


@pytest.mark.parametrize(
    "module",
    [
        "measure_config", "messages", "stats.interval", "stats.noise_floor", "stats.paired",
        "stats.roofline", "stats.stopping", "machine.doctor", "machine.telemetry",
    ],
)  # fmt: skip
def test_the_supervisor_side_imports_no_heavy_library(module):
    """The statistics and settings modules, which the supervisor imports, load neither torch, pandas nor SciPy."""
    code = f"import sys, attnbench.{module}; assert not {{'torch', 'pandas', 'scipy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
