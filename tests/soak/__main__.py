"""Run long, sample the memory and the descriptors of all processes, and check that nothing grows and nothing is left.

    python tests/soak stubbed --cells 10000    run cells with stand-ins for the workers, and report on the run
    python tests/soak cluster --cells 10000    run cells on a Ray cluster of three local nodes, with stand-ins for tasks
    python tests/soak real --minutes 60        run small real cells on the CPU for about this long

Each command writes the samples (CSV), a figure (SVG) and a summary (Markdown) to the folder OUT, and exits with 1 if a
process grew, something was left behind, or the records differ from the plan. The commands need an otherwise idle
machine only to take no longer than expected.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import soak_runs
from ray_nodes import TYPE, cluster
from soak_figure import draw
from soak_runs import REAL, REAL_INTERVAL_S, SIMULATED_INTERVAL_S, SIMULATED_NODES, STUBBED, SoakRun
from soak_summary import problems, summary

NODES = 3


def main() -> int:
    """Run the command that the arguments name, and return its exit status."""
    given = _arguments()
    out, work = given.out.resolve(), Path(tempfile.mkdtemp(prefix="attnbench-soak-"))
    out.mkdir(parents=True, exist_ok=True)
    done = RUNS[given.command](given, work)
    reported = soak_runs.report(done, work, SIMULATED_INTERVAL_S) if given.command == "stubbed" else None
    title = f"attnbench soak: {given.command}, {max((sample.records for sample in done.samples), default=0)} records"
    (out / f"{given.command}.csv").write_bytes(done.log.with_suffix(".csv").read_bytes())
    draw(done.samples, title, out / f"{given.command}.svg")
    text = summary(given.command, done, reported)
    (out / f"{given.command}.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"records and logs: {work}")
    return 1 if problems(done) or (reported and reported[0]) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python tests/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in RUNS:
        command = commands.add_parser(name)
        command.add_argument("--out", type=Path, default=Path("results/soak"), help="folder to write to")
        if name == "real":
            command.add_argument("--minutes", type=float, default=60.0, help="how long the run takes, about")
        else:
            command.add_argument("--cells", type=int, default=10_000, help="the number of cells, at least")
    return parser.parse_args()


def _stubbed(given: argparse.Namespace, work: Path) -> SoakRun:
    arguments = soak_runs.stubbed_arguments(given.cells, work)
    return soak_runs.run(STUBBED, arguments, work, "stubbed", SIMULATED_INTERVAL_S)


def _cluster(given: argparse.Namespace, work: Path) -> SoakRun:
    with cluster(NODES) as started:
        arguments = soak_runs.cluster_arguments(given.cells, work, started.address, TYPE)
        return soak_runs.run(SIMULATED_NODES, arguments, work, "cluster", SIMULATED_INTERVAL_S)


def _real(given: argparse.Namespace, work: Path) -> SoakRun:
    lengths = soak_runs.lengths_in(given.minutes * 60, work)
    return soak_runs.run(REAL, soak_runs.real_arguments(lengths, work), work, "real", REAL_INTERVAL_S)


RUNS = {"stubbed": _stubbed, "cluster": _cluster, "real": _real}

if __name__ == "__main__":
    sys.exit(main())
