"""Print a Markdown table of all runs, with each variant's cell count per status, best throughput and kernels."""

import sys

from attnbench import load


def main(folder):
    """Print the table for all runs under `folder`, with one row per variant."""
    frame = load(folder)
    frame = frame[~frame["control"]]
    statuses = sorted(frame["status"].unique())
    print(f"# {frame['device_name'].iloc[0]}: {len(frame)} cells in {frame['run'].nunique()} runs\n")
    header = ["variant", *statuses, "best TFLOP/s forward", "best TFLOP/s training", "kernels"]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for variant, cells in frame.groupby("variant"):
        counts = [str((cells["status"] == status).sum()) for status in statuses]
        best = [_best(cells[cells["direction"] == direction]) for direction in ("forward", "forward_backward")]
        kernels = cells["kernels"].dropna()
        named = sorted({name for names in kernels for name in names})[:2]
        print("| " + " | ".join([str(variant), *counts, *best, "; ".join(name[:60] for name in named)]) + " |")
    return 0


def _best(cells):
    """Return the highest TFLOP/s and the workload that reached it as text, or a dash if no cell was timed."""
    timed = cells[cells["tflops"].notna()]
    if timed.empty:
        return "-"
    top = timed.loc[timed["tflops"].idxmax()]
    return f"{top['tflops']:.3g} ({top['workload_id']})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
