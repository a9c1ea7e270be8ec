"""Count how often the verdicts of real runs are right, on variants whose speeds are known.

    python tests/performance/real_verdicts.py --runs 20            # six contestants, four of which run the same code
    python tests/performance/real_verdicts.py --runs 20 --busy     # the same beside a busy loop
    python tests/performance/real_verdicts.py --repeated 0,0,...   # other contestants, see contestants.py

Needs a machine that is idle apart from the busy loop.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

PLUGIN = Path(__file__).with_name("contestants.py")
HEADS = 20
SHAPE = ["--heads", str(HEADS), "--head-dim", "64", "--seq", "128,192,256", "--mask", "none", "--direction", "forward"]


@contextlib.contextmanager
def busy_loop(wanted):
    """Keep one core busy."""
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if loop is not None:
            loop.kill()
            loop.wait()


def judged(folder, repeated, budget_s):
    """Run all contestants, and return the results of each row that compares one with the first, by its true ratio."""
    from attnbench.analysis.results import Results

    names = [f"c{number}-r{count}" for number, count in enumerate(repeated)]
    command = [
        sys.executable, "-m", "attnbench", "run", "-d", "cpu", "-p", str(PLUGIN), "-v", ",".join(names), *SHAPE,
        "--baseline", names[0], "--budget", str(budget_s), "--results", str(folder), "--quiet",
    ]  # fmt: skip
    # The contestants are in the environment, which the cache of plugins does not know.
    cache = {"XDG_CACHE_HOME": str(folder.with_name(f"{folder.name}-cache"))}
    environment = {**os.environ, **cache, "CONTESTANTS": ",".join(map(str, repeated))}
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    (run,) = folder.iterdir()
    rows = defaultdict(list)
    for (*_, name), result in Results.load(run).comparisons.items():
        count = repeated[names.index(name)]
        rows[(HEADS + count) / (HEADS + repeated[0])].append(result)
    return rows


def half_width(result):
    """Return half the relative width of a row's interval, or infinity if it has none."""
    return math.inf if result.low is None else (result.high - result.low) / 2 / result.ratio


def main():
    """Print a line for each run, and the shares over all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--repeated", default="0,0,0,0,1,2")
    parser.add_argument("--budget", type=float, default=3.0)
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    repeated = [int(text) for text in options.repeated.split(",")]
    everything = defaultdict(list)
    with busy_loop(options.busy):
        for number in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                rows = judged(Path(folder) / "results", repeated, options.budget)
            for ratio, results in rows.items():
                everything[ratio] += results
            verdicts = {f"{ratio:.2f}": [result.verdict for result in results] for ratio, results in rows.items()}
            print(number, verdicts, flush=True)
    print("| true ratio | rows | faster | slower | same | undecided | half-width, median |\n|" + " --- |" * 7)
    for ratio, results in sorted(everything.items()):
        shares = [
            sum(result.verdict == verdict for result in results) / len(results)
            for verdict in ("faster", "slower", "same", "undecided")
        ]
        print(
            f"| {ratio:.2f} | {len(results)} | "
            + " | ".join(f"{share:.0%}" for share in shares)
            + f" | {median(map(half_width, results)):.1%} |"
        )


if __name__ == "__main__":
    main()
