"""Print what the runs, the logs and the failures of a call contain, the most important first."""

import json
import sys
from pathlib import Path

from runner import printed

from attnbench import load

PICKED = ("machine", "agreement", "back-to-back", "check", "dishonest", "wrong", "faults")  # steps without a run
LOG_LINES = {"machine": 30}
OTHER_LOG_LINES = 5
ALWAYS_SHOWN = ("MISSED", "WRONG", "DIFFER", "FAILED", "failed", "Error")
MAX_LINE = 150  # characters


def main(work):
    """Print the summary of the call whose results are in the folder `work`."""
    steps = [json.loads(line) for line in (work / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    for step in steps:
        found = log_lines(work / "logs" / f"{step['name']}.log", step["name"]) if step["name"] in PICKED else []
        if found:
            print(f"\n## {step['name']}", *found, sep="\n")
    for manifest in sorted((work / "runs").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime):
        print(f"\n## run {manifest.parent.name}")
        try:
            frame = load(manifest.parent)
        except Exception as error:  # noqa: BLE001 - a run that can't be read must not hide the others
            print(f"can't be read: {error}")
        else:
            print(*run_lines(frame), sep="\n")


def log_lines(path, step):
    """Return the lines of a log that report a failure, and its last lines."""
    lines = [line[:MAX_LINE] for line in printed(path)]
    last = max(0, len(lines) - LOG_LINES.get(step, OTHER_LOG_LINES))
    telling = [line for line in lines[:last] if any(word in line for word in ALWAYS_SHOWN)]
    return [*telling[:OTHER_LOG_LINES], *lines[last:]]


def run_lines(frame):
    """Return the lines about a run: a table of its times, and the reasons of cells without one."""
    frame = frame[~frame["control"]]
    timed = frame[frame["status"] == "ok"]
    unsupported = (frame["status"] == "unsupported").sum()
    lines = [f"{len(timed)} of {len(frame)} cells are ok, {unsupported} unsupported"]
    lines += lengths_table(timed) if timed["seq_q"].nunique() > 1 else cell_lines(timed)
    failures = frame[~frame["status"].isin(["ok", "unsupported"])]
    for (variant, status), cells in failures.groupby(["variant", "status"]):
        first = cells.iloc[0]
        where = f"{first['workload_id']}{f' and {len(cells) - 1} more' if len(cells) > 1 else ''}"
        lines.append(f"{variant}: {status} at {where}: {first['reason']}"[: 2 * MAX_LINE])
    return lines


def cell_lines(timed):
    """Return one line per timed cell, with its time, throughput, memory, flags and longest kernel."""
    lines = []
    for _, cell in timed.sort_values(["workload_id", "latency_ms"]).iterrows():
        memory = f"{cell['peak_bytes'] / 2**20:10.1f} MiB"
        kernels = f" {cell['kernels'][0][:50]}" if cell["kernels"] else ""
        flags = f" [{', '.join(cell['flags'])}]" if cell["flags"] else ""
        lines.append(
            f"{cell['variant']:<16}{cell['direction']:<17}{cell['latency_ms']:9.4f} ms{cell['tflops']:8.4g} TFLOP/s"
            f"{memory}{flags}{kernels}"[:MAX_LINE]
        )
    return lines


def lengths_table(timed):
    """Return a table of TFLOP/s, with one line per variant, direction and mask, and one column per length."""
    index = ["head_dim", "mask", "direction", "variant"]
    table = timed.assign(mask=timed["mask"].astype(str)).pivot_table("tflops", index, "seq_q")
    lines = [f"{'TFLOP/s at length':<45}" + "".join(f"{length:>8}" for length in table.columns)]
    for (head_dim, mask, direction, variant), row in table.iterrows():
        label = f"{variant}, D{head_dim}, {mask}, {direction}"
        lines.append(f"{label:<45}" + "".join(f"{speed:8.4g}" for speed in row).replace("nan", "  -"))
    return lines


if __name__ == "__main__":
    main(Path(sys.argv[1]))
