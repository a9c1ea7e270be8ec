"""Judge a run of the soak tests, and describe it in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flatness import Growth, growths

if TYPE_CHECKING:
    from process_samples import ProcessSample
    from soak_runs import SoakRun

COLUMNS = (
    *("process", "number", "memory at first", "at the end", "growth per record"),
    *("most descriptors", "most threads", "CPU time per record, first third", "last third"),
)
ROLES = ("supervisor", "fork server", "worker")


def problems(run: SoakRun) -> list[str]:
    """Return everything that is wrong: what grew, what was left behind, and how the records differ from the plan."""
    grown = [problem for growth in growths(run.samples) for problem in growth.problems]
    return [*grown, *(f"left behind: {left}" for left in run.left), *run.contradictions]


def summary(name: str, run: SoakRun, reported: tuple[int, list[ProcessSample]] | None) -> str:
    """Return the summary of a run, and of the command that reported on it: its exit status and samples, if any."""
    seconds = max((sample.seconds for sample in run.samples), default=0.0)
    records = max((sample.records for sample in run.samples), default=0)
    found = growths(run.samples)
    lines = [
        f"# Soak: {name}",
        "",
        f"{records} records in {seconds / 60:.1f} minutes. Growth is counted after the first quarter of the records.",
        "Memory is what no other process shares or, for a fork server, all resident memory.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(_row(role, [growth for growth in found if growth.role == role]) for role in ROLES),
        "",
    ]
    if reported is not None:
        status, samples = reported
        peak, took = max(sample.uss for sample in samples), max(sample.seconds for sample in samples)
        lines += [
            f"`attnbench report` took {took:.0f} s and at most {peak / 2**20:.0f} MiB; exit status {status}.",
            "",
        ]
    wrong = problems(run)
    lines += ["Problems:", "", *(f"- {problem}" for problem in wrong)] if wrong else ["No problem was found."]
    return "\n".join(lines) + "\n"


def _row(role: str, of_role: Iterable[Growth]) -> str:
    found = list(of_role)
    if not found:
        return f"| {role} | 0 | | | | | | | |"
    first, last = (statistics.median(cost) for cost in zip(*(growth.cpu_s_per_record for growth in found), strict=True))
    return (
        f"| {role} | {len(found)} | {_mib(max(growth.first_bytes for growth in found))} "
        f"| {_mib(max(growth.last_bytes for growth in found))} "
        f"| {max(growth.bytes_per_record for growth in found):.0f} bytes | {max(g.most_descriptors for g in found)} "
        f"| {max(growth.most_threads for growth in found)} | {first * 1e3:.2f} ms | {last * 1e3:.2f} ms |"
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
