"""Check the status of each variant of fault_pack.py in the last run, and exit with 1 if any status is unexpected."""

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
    """Print the statuses of each variant in the last run under `folder`, and return 1 if any status is unexpected."""
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
