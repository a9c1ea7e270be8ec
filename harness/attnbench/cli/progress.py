"""What `attnbench run` prints: the plan of a dry run, and what a run came to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from attnbench.progress import announcement, printable

if TYPE_CHECKING:
    from attnbench.runner.plan import Plan
    from attnbench.runner.sweep import Summary


def print_plan(plan: Plan, unsupported: Mapping[str, str], seconds: float) -> None:
    """Print every cell of the plan, with the reason where it will be unsupported."""
    for cell in plan.cells:
        reason = unsupported.get(cell.cell_id)
        ending = f"  unsupported: {printable(reason)}" if reason else ""
        print(f"{cell.cell_id}  {cell.device.name}  {cell.variant.name}  {cell.workload.id}{ending}")
    print(announcement(len(plan.cells), len(unsupported), seconds))


def print_summary(folder: Path, summary: Summary) -> None:
    """Say what the run came to, and what to type next."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
    print(
        f"{counts} in {summary.wall_s:.1f} s, {summary.useful_share:.0%} of it in the timed callable, "
        f"warm-up or conformance\nrecords: {folder}\nreport:  attnbench report {folder}"
    )


def table(*columns: str) -> Table:
    """Make a table in the house's style."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made
