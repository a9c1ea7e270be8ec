"""Run the conformance suite on correct variants with many seeds, count false alarms, and find the worst error ratios.

Run the script from the root of the repository: `python tests/conformance/false_alarms.py [--seeds 20] [--first 0]
[--level quick] [VARIANT...]`. Without variant names, it tests every variant that this machine's CPU can run. The
constants in attnbench/conformance/tolerance.py are based on its output. The script takes minutes for each variant, so
the test suite does not include it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from pathlib import Path

from attnbench.conformance import accuracy
from attnbench.conformance.subject import Subject
from attnbench.conformance.suite import CHECKS, DEMANDED, cases, run_case
from attnbench.plugins.loading import entry_point_sources, load_all

sys.path.insert(0, str(Path(__file__).parents[1] / "mutants"))
from tiled import Tiled

# The results of these checks hardly depend on the seed.
SEEDLESS_CHECKS = ("neighbours", "fresh-output", "empty", "side-stream", "refusals", "large-index", "far-apart")
CHECKED = [name for name in CHECKS if name not in SEEDLESS_CHECKS]


def correct_variants():
    """Return the tiled variant and all built-in variants that can run at least one workload on this CPU, by name."""
    found = {"tiled": Tiled()}
    for _, plugin in load_all(entry_point_sources(), skip={}):
        for candidate in getattr(plugin, "variants", ()):
            subject = Subject(candidate)
            if any(subject.refusal(case.workload) is None for case in cases(candidate, level="quick", only=CHECKED)):
                found[candidate.name] = candidate
    return found


def watch(ratios):
    """Return a version of accuracy.measurements that also stores each rule's worst error ratio in `ratios`."""
    original = accuracy.measurements

    def watched(*arguments, **options):
        for measured, piece in original(*arguments, **options):
            if measured.ratio.numel():
                ratios[measured.rule] = max(ratios[measured.rule], float(measured.ratio.max()))
            yield measured, piece

    return watched


def run(variant, seeds, level):
    """Run the suite on a variant with each seed, print the results, and return the number of false alarms."""
    original = accuracy.measurements
    ratios, counts = defaultdict(float), Counter()
    accuracy.measurements = watch(ratios)
    demanded = {check.name for check in DEMANDED} | variant.traits
    for seed in seeds:
        for case in cases(variant, level=level, only=CHECKED):
            result = run_case(Subject(variant, seed=seed), case)
            counts[result.status] += case.check.name in demanded
            if result.status == "failed":
                print(f"seed {seed} {variant.name} {case.id}: {result.reason}", flush=True)
    accuracy.measurements = original
    summary = f"{counts['failed']} false alarms, {counts['passed']} passed, {counts['skipped']} skipped"
    print(f"{variant.name}, {level}, seeds {seeds.start} to {seeds.stop - 1}: {summary}", flush=True)
    for rule in sorted(ratios):
        print(f"    {ratios[rule]:.3f}  {rule}", flush=True)
    return counts["failed"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--level", default="quick")
    parser.add_argument("variants", nargs="*")
    chosen = parser.parse_args()
    correct = correct_variants()
    span = range(chosen.first, chosen.first + chosen.seeds)
    sys.exit(bool(sum([run(correct[name], span, chosen.level) for name in chosen.variants or correct])))
