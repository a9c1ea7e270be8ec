"""The public interface is typed, and a type checker finds wrong uses of it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

GOOD = """
from pathlib import Path
from typing import assert_type

import torch

from attnbench import Inputs, Mask, Run, Variant, Workload, hookimpl, load, run, variant
from attnbench.plugins.variant import FunctionVariant, Timed


class Plain(Variant):
    name = "plain"
    layout = "BSHD"

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        assert_type(workload.mask, Mask)
        assert_type(workload.flops(), int)
        return None

    def prepare(self, workload: Workload, inputs: Inputs) -> Timed:
        assert_type(inputs.query, torch.Tensor)
        return lambda: inputs.value * 1.0


@variant("short")
def short(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, workload: Workload) -> torch.Tensor:
    return value


@hookimpl
def attnbench_variants() -> list[Variant]:
    assert_type(short, FunctionVariant)
    return [Plain(), short]


columns = load("results").columns
done = run("plain,sdpa", seq=[16, 32], mask="causal", workloads=[Workload(heads=1, seq_q=4, head_dim=2)], budget_s=0.1)
assert_type(done, Run)
assert_type(done.statuses["ok"], int)
assert_type(done.report(baseline="sdpa"), Path)
load(done)
"""
BAD = """
from attnbench import Variant, Workload, run


class Sideways(Variant):
    name = "sideways"
    layout = "HSBD"


Workload(heads="8", seq_q=1, head_dim=1)
Workload(heads=8, seq_q=1, head_dim=1).flops().imag.nothing
run("sdpa", precision="1%")
"""


def test_types_of_the_public_interface(tmp_path):
    """Strict mypy accepts a correct plugin, and rejects a wrong layout, size, attribute and argument."""
    for name, text in (("good.py", GOOD), ("bad.py", BAD)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    checked = subprocess.run(  # uses the repository's settings, so that mypy can reuse the cache of `make lint`
        [sys.executable, "-m", "mypy", "--no-error-summary", tmp_path / "good.py", tmp_path / "bad.py"],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    lines = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert [Path(line.split(":")[0]).name for line in lines] == ["bad.py"] * 4, checked.stdout + checked.stderr
    for line, word in zip(
        lines, ("Incompatible types in assignment", 'Argument "heads"', "nothing", 'Argument "precision"'), strict=True
    ):
        assert word in line
