"""Run everything that needs a GPU, in two calls that together fit into 15 minutes with a GPU.

    python tests/gpu wheels              on a machine with a network: fetch the wheels that the GPU machine may lack
    python tests/gpu first               about nine minutes, the most telling steps first
    python tests/gpu second --seconds N  FlashAttention-3's table, dishonest and wrong variants, in N seconds

Each step has its own time limit, and a step that fails or hangs does not stop the next one. A call writes everything to
one archive, OUT/first.tar.gz or OUT/second.tar.gz, which is written again after each step and is at most 16 MiB large.
The last lines of the output are a summary. `--dry-run` prints the steps and their limits, and `--device cpu` rehearses
a call with small shapes. To start a call, only Python's standard library is needed.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path

import archive
import packages
import runner
import steps

SUMMARY_LINES, SUMMARY_CHARACTERS = 90, 10_000  # a caller may see only the end of the output
SUMMARY_S = 20.0
INTERRUPTED = 130  # exit status
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the command that the arguments name, and return its exit status."""
    given = _arguments()
    if given.command == "wheels":
        return packages.fetch(given.to, given.python, given.machine, given.also)
    if given.dry_run:
        setting = steps.Setting(given.device, Path("WORK"), Path("SITE"), given.wheels)
        print(steps.describe(steps.call(given.command, setting, given.seconds)))
        return 0
    work = Path(tempfile.mkdtemp(prefix="attnbench-gpu-"))
    setting = steps.Setting(given.device, work / "results", work / "site", given.wheels.resolve())
    return run(steps.call(given.command, setting, given.seconds), setting, given.out.resolve())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python tests/gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("wheels", help="fetch the wheels that the GPU machine may lack")
    fetch.add_argument("--to", type=Path, default=packages.FOLDER, help="folder to write to; its wheels are replaced")
    fetch.add_argument("--python", default="3.12", help="Python version of the GPU machine (default: %(default)s)")
    fetch.add_argument("--machine", default="x86_64", help="its processor, x86_64 or aarch64 (default: %(default)s)")
    fetch.add_argument("--also", nargs="*", default=packages.LIBRARIES, help="further packages (default: %(default)s)")
    for name in steps.CALLS:
        call = commands.add_parser(name, help=f"run the {name} call")
        call.add_argument("--out", type=Path, default=Path("results/gpu"), help="folder of the archive")
        call.add_argument("--wheels", type=Path, default=packages.FOLDER, help="folder of the wheels to install first")
        call.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses with small shapes")
        call.add_argument("--seconds", type=float, help="time for the whole call; the limits are scaled to fit")
        call.add_argument("--dry-run", action="store_true", help="print the steps and their limits, and run nothing")
    return parser.parse_args()


def run(call: steps.Call, setting: steps.Setting, out: Path) -> int:
    """Run a call's steps, write the archive after each of them, and print the summary.

    Returns 0 if every step succeeded, 1 if one failed, and 130 if the call was interrupted.
    """
    deadline = time.monotonic() + call.seconds - steps.CLOSING_S
    work, target = setting.work, out / f"{call.name}.tar.gz"
    for folder in (work / "logs", out):
        folder.mkdir(parents=True, exist_ok=True)
    print(f"{call.name}: at most {call.seconds:.0f} s; working in {work}; the archive is {target}", flush=True)
    # A handler is set for SIGINT too, because a shell may have started this process with SIGINT ignored.
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    outcomes: list[runner.Outcome] = []
    interrupted = False
    try:
        for step in call.steps:
            outcomes.append(runner.run_step(step, work, setting.environment, deadline))
            print(outcomes[-1].line, flush=True)
            archive.pack(work, target)
    except KeyboardInterrupt:
        interrupted = True
    for number in SIGNALS:  # a second signal must not leave the archive incomplete
        signal.signal(number, signal.SIG_IGN)
    archive.pack(work, target)
    _summarise(call, setting, outcomes)
    left_out = archive.pack(work, target)
    size = f"{target.stat().st_size / 2**20:.1f} MiB"
    print(*left_out, f"{target}: {size}{', interrupted' if interrupted else ''}", sep="\n", flush=True)
    return INTERRUPTED if interrupted else int(any(outcome.failed for outcome in outcomes))


def _summarise(call: steps.Call, setting: steps.Setting, outcomes: list[runner.Outcome]) -> None:
    """Write summary.md and print its first lines: the outcomes of the steps, and what the runs and the logs contain."""
    step = steps.Step("summary", SUMMARY_S, (steps.script("summary", str(setting.work)),))
    outcome = runner.run_step(step, setting.work, setting.environment, time.monotonic() + SUMMARY_S)
    details = [outcome.line] if outcome.failed else runner.printed(setting.work / "logs" / "summary.log")
    lines = [f"# {call.name}: {shlex.join(sys.argv[1:])}", *(each.line for each in outcomes), *details]
    (setting.work / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lengths = itertools.accumulate(len(line) + 1 for line in lines)
    shown = min(SUMMARY_LINES, sum(length <= SUMMARY_CHARACTERS for length in lengths))
    print("\n".join(lines[:shown]))
    if shown < len(lines):
        print(f"... {len(lines) - shown} more lines in summary.md in the archive")


if __name__ == "__main__":
    sys.exit(main())
