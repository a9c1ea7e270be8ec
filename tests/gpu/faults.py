"""Check the statuses of fault_pack.py's variants in the latest run, and exit with status 1 if any is unexpected."""

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
    """Print each variant's statuses in the latest run under `folder`. Return 1 if any is unexpected, or else 0."""
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
