"""Check that each faulty variant of the last run has the expected status, and the working one `ok`; exit 1 if not."""

import sys

from attnbench import load

EXPECTED = {
    "fault-a-illegal-access": {"crash", "error"},
    "fault-b-out-of-memory": {"out_of_memory"},
    "fault-c-endless": {"timeout"},
    "fault-d-assert": {"crash", "error"},
    "fault-e-none": {"ok"},
}


def main(folder):
    """Compare the statuses of the last run under `folder` with the expected ones, and print a line for each variant."""
    frame = load(folder)
    last = frame[frame["run"] == max(frame["run"])]
    statuses = last[~last["control"]].groupby("variant")["status"].agg(set).to_dict()
    wrong = {name: statuses.get(name, {"no record"}) for name in EXPECTED if statuses.get(name) is None
             or not statuses[name] <= EXPECTED[name]}  # fmt: skip
    for name in EXPECTED:
        print(f"{'WRONG' if name in wrong else 'ok':<6}{name}: {', '.join(sorted(statuses.get(name, {'no record'})))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
