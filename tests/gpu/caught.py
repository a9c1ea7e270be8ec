"""Check that every dishonest variant is detected on a device, and that the honest one is timed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "stand_ins"))
from agreement import torch_name

from attnbench import Workload
from dishonest_pack import NEEDS_SEPARATE_WORKER, PACK, PackRunner

WORKLOAD = Workload(heads=2, seq_q=64, head_dim=16, mask="causal")
DEADLINE_S = 20.0


def main(device):
    """Measure all variants in the pack. Return 1 if `honest` isn't timed or another one is, and 0 otherwise."""
    tricks = ["honest", *sorted({path.stem for path in PACK.glob("*.py")} - {"honest"})]
    tricks = [trick for trick in tricks if device == "cuda" or trick != "side_stream"]
    shared, missed = PackRunner({}, DEADLINE_S), []
    for trick in tricks:
        runner = PackRunner({}, DEADLINE_S) if NEEDS_SEPARATE_WORKER.search(trick) else shared
        status, reason = runner.outcome(trick, WORKLOAD, torch_name(device))
        if runner is not shared:
            runner.stop()
        as_expected = status == "ok" if trick == "honest" else status in ("incorrect", "error")
        missed += [] if as_expected else [trick]
        print(f"{'ok' if as_expected else 'MISSED':<8}{trick}: {status} {reason or ''}", flush=True)
    shared.stop()
    print(f"{len(tricks) - len(missed)} of {len(tricks)} as expected; not: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
