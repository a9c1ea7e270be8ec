"""Run the variants of fault_pack.py, and exit with status 1 if one of them gets an unexpected status."""

import subprocess
import sys
from pathlib import Path

from attnbench import load

PACK = Path(__file__).parent / "fault_pack.py"
EXPECTED = {
    "fault-a-out-of-memory": {"out_of_memory"},
    "fault-b-index": {"crash", "error"},
    "fault-c-none": {"ok"},
}


def main(device, results):
    """Run the variants in `results`/faults and print their statuses. Return 1 if any is unexpected, and 0 otherwise."""
    chosen = ["-p", str(PACK), "-v", "fault-*", "-d", device, "-w", "b1-h2-s64-d16-float32-none-forward"]
    command = [sys.executable, "-m", "attnbench", "run", *chosen, "--results", results, "--name", "faults"]
    subprocess.run([*command, "--budget", "0.2", "--timeout", "20"], check=False)
    frame = load(Path(results) / "faults")
    statuses = frame[~frame["control"]].set_index("variant")["status"]
    wrong = [name for name, expected in EXPECTED.items() if statuses.get(name) not in expected]
    for name in EXPECTED:
        print(f"{'WRONG' if name in wrong else 'ok':<6}{name}: {statuses.get(name, 'no record')}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
