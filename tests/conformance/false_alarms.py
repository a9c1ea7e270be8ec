"""Runs the quick suite on honest variants over many seeds: counts false alarms and finds the worst error ratios.

Run from the repository's root: `python tests/conformance/false_alarms.py [SEEDS] [VARIANT...]`. The table that it
prints is what the constants in attnbench/conformance/tolerance.py rest on.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from attnbench.conformance import comparison
from attnbench.conformance.suite import DEMANDED, cases, run_case
from attnbench.conformance.trial import Subject
from attnbench.conformance.workloads import workload
from attnbench.registry import entry_point_sources, load_all

sys.path.insert(0, str(Path(__file__).parents[1] / "mutants"))
from tiled import Tiled

SAME_EACH_TIME = ("strides", "neighbours", "fresh-output", "empty", "side-stream")  # seeds hardly change these
CHECKED = [check.name for check in DEMANDED if check.name not in SAME_EACH_TIME]


def honest_variants():
    """Give the tiled variant and all built-in ones that run on this machine's CPU, by name."""
    found = {"tiled": Tiled()}
    for _, plugin in load_all(entry_point_sources(), skip={}):
        for candidate in getattr(plugin, "variants", ()):
            if candidate.exact and candidate.unsupported_reason(workload(seq=8, direction="forward"), "cpu") is None:
                found[candidate.name] = candidate
    return found


def watch(ratios, variant):
    """Record the worst ratio of each rule, for a variant, into `ratios`."""
    honest = comparison.measurements

    def watched(*arguments, **options):
        for measured, piece in honest(*arguments, **options):
            if measured.ratio.numel():
                held = ratios[measured.rule]
                held[variant] = max(held.get(variant, 0.0), float(measured.ratio.max()))
            yield measured, piece

    return watched


def main(seeds, names):
    """Print failures as they come, then the worst ratio of each rule and variant."""
    variants = honest_variants()
    ratios = defaultdict(dict)
    honest = comparison.measurements
    runs = alarms = 0
    for name in names or variants:
        comparison.measurements = watch(ratios, name)
        for seed in range(seeds):
            for case in cases(variants[name], level="quick", only=CHECKED):
                result = run_case(Subject(variants[name], seed=seed), case)
                runs += 1
                if result.status == "failed":
                    alarms += 1
                    print(f"seed {seed} {name} {case.id}: {result.reason}", flush=True)
        comparison.measurements = honest
        print(f"{name}: {seeds} seeds done, {alarms} false alarms in {runs} checks so far", flush=True)
        for rule in sorted(ratios):
            if name in ratios[rule]:
                print(f"    {ratios[rule][name]:.3f}  {rule}", flush=True)
    return alarms


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, sys.argv[2:])))
