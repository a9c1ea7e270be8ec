"""Run a few hundred simulated cells as a process, and count what it holds and what it leaves behind."""

import soak_runs
from soak_runs import STUBBED

CELLS = 150
INTERVAL_S = 0.2


def test_a_run_of_many_cells_holds_no_more_at_its_end_and_leaves_nothing(tmp_path):
    """Records equal the plan, no process keeps descriptors of its cells, and no file or process is left."""
    done = soak_runs.run(STUBBED, soak_runs.stubbed_arguments(CELLS, tmp_path), tmp_path, "stubbed", INTERVAL_S)
    assert done.contradictions == []
    assert done.left == []
    assert max(sample.records for sample in done.samples) > CELLS / 2, "the processes were not sampled"
    for role in {sample.role for sample in done.samples}:
        early, late = (
            [
                sample.descriptors
                for sample in done.samples
                if sample.role == role and (sample.records > CELLS / 2) is end
            ]
            for end in (False, True)
        )
        grown = max(late, default=0) - max(early, default=0)
        assert grown < CELLS / 4, f"a {role} keeps descriptors of its cells"
