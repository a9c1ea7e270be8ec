"""Axes: each workload field is declared once, and all lists of fields are derived from the declarations."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from pathlib import Path

import pytest
import typer

import attnbench
from attnbench import Workload
from attnbench.analysis import dispatch_table, series
from attnbench.benchmarks import options
from attnbench.cli.app import app
from attnbench.errors import WorkloadError
from attnbench.plan.memory_frontier import SIZES
from attnbench.report.importing import FIELDS
from attnbench.workloads.suite import expand
from attnbench.workloads.workload import AXES, OPTIONS

FROZEN = json.loads(Path(__file__).with_name("frozen_ids.json").read_text(encoding="utf-8"))
PLAIN = {"heads": 8, "seq_q": 64, "head_dim": 32}
SET = {
    "batch": 2, "kv_heads": 4, "seq_k": 32, "head_dim_v": 16, "mask": "causal", "scale": 0.5, "softcap": 30.0,
    "alibi": True, "dropout": 0.1, "embed_dim": 256, "gpus": 4,
}  # fmt: skip


@pytest.mark.parametrize(("name", "fields"), FROZEN.items())
def test_ids_of_earlier_versions_are_kept(name, fields):
    """Workloads have the ids that they had in earlier versions, and these ids can be parsed."""
    workload = Workload.from_json(fields)
    assert workload.id == name
    assert Workload.parse(name) == workload


@pytest.mark.parametrize(
    "text",
    [
        "b1-h8-q512-d64-float32-causal-forward",
        "b1-h8-s512-k512-d64-float32-causal-forward",
        "b1-h8-s512-d64-float32-causal-forward-ring",
        "b1-h8-s512-d64-float32-causal-forward-gpus2",
        "b1-h8-s512-d64-float32-causal-forward-native",
        "h8-b1-s512-d64-float32-causal-forward",
        "-b1-h8-s512-d64-float32-causal-forward",
        "",
    ],
)
def test_incomplete_ids_are_refused(text):
    """A string that is not a complete workload id is rejected with a message that shows an example."""
    with pytest.raises(WorkloadError, match="expected an id such as b1-h8-s512-d64-float32-causal-forward"):
        Workload.parse(text)


def test_every_field_is_an_axis():
    """Each field of a workload has an axis with the same name and default."""
    defaults = {spec.name: spec.default for spec in dataclasses.fields(Workload)}
    assert {name: axis.default for name, axis in AXES.items()} == defaults
    assert all(axis.name == name for name, axis in AXES.items())


@pytest.mark.parametrize("name", [name for name, axis in AXES.items() if axis.is_optional])
def test_every_field_is_an_axis_of_suites(name):
    """A suite's grid can set every optional field."""
    value = SET.get(name) or (AXES[name].choices[-1] if AXES[name].choices else AXES[name].minimum + 1)
    grid = {**PLAIN, "heads": 16, "kv_heads": 8, "gpus": 2, "batch": 4, name: value}
    grid |= {"gpus": 1} if name == "embed_dim" else {}
    (workload,) = expand(grid, "here")
    assert str(getattr(workload, name)) == str(grid[name])


def test_options_of_the_command_line_are_the_axes_options():
    """`attnbench run` offers every axis option, in the order of the axes, with the axis's help text and placeholder."""
    command = typer.main.get_command(app).commands["run"]
    names = [axis.name for axis in OPTIONS]
    offered = [parameter for parameter in command.params if parameter.name in names]
    assert [parameter.name for parameter in offered] == names
    assert [(parameter.help, parameter.metavar) for parameter in offered] == [
        (axis.option.help, axis.option.metavar) for axis in OPTIONS
    ]


def test_options_of_the_benchmarks_are_the_axes_of_attention():
    """`pytest --pyargs attnbench.benchmarks` offers the options of the axes that describe the attention itself."""
    assert [axis for axis in OPTIONS if not axis.surrounds] == options.AXES


def test_lists_of_fields_follow_the_axes():
    """The field lists for charts, dispatch tables, imports and sizes follow from the axis declarations."""
    axes = AXES.values()
    assert set(series.SETTING) & AXES.keys() == {axis.name for axis in axes if axis.setting}
    assert set(dispatch_table.EXACT) & AXES.keys() == {axis.name for axis in axes if axis.exact}
    assert set(dispatch_table.NEAR) == {axis.name for axis in axes if axis.near}
    assert list(FIELDS) == [axis.name for axis in axes if not axis.surrounds]
    assert list(SIZES) == [axis.name for axis in axes if axis.kind is int and not axis.surrounds]


def test_only_batch_and_lengths_differ_along_a_line():
    """Only the batch and the lengths may differ along a chart's line."""
    assert [axis.name for axis in AXES.values() if not axis.setting] == ["batch", "seq_q", "seq_k"]


def test_attention_alone_has_the_default_surroundings():
    """`Workload.attention` resets exactly the axes that describe what surrounds the attention, such as a layer."""
    layer = Workload(**PLAIN, batch=4, alibi=True, embed_dim=256, distribution="outliers", gpus=2)
    changed = {name for name in AXES if getattr(layer, name) != getattr(layer.attention, name)}
    assert changed == {"embed_dim", "distribution", "gpus"}


def field_lists(path: Path) -> list[int]:
    """Return the line number of each literal list, tuple or set in a module that names four or more workload fields."""
    literals = (ast.Tuple, ast.List, ast.Set)
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, literals):
            named = {item.value for item in node.elts if isinstance(item, ast.Constant)} & AXES.keys()
            lines += [node.lineno] if len(named) >= 4 else []
    return lines


def test_no_module_outside_workloads_lists_the_fields():
    """Outside the `workloads` folder, no literal list, tuple or set names four or more workload fields.

    Conformance checks and studies are exempt, because they choose the fields that differ between their own workloads.
    """
    package = Path(inspect.getfile(attnbench)).parent
    exempt = {package / name for name in ("workloads", "conformance", "study")}
    modules = [path for path in package.rglob("*.py") if not exempt & set(path.parents)]
    found = [f"{path.relative_to(package)}:{line}" for path in modules for line in field_lists(path)]
    assert found == []
    assert len(modules) > 50
