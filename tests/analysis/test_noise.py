"""The A/A control."""

import pytest

import attnbench
import synthetic
from attnbench.analysis.noise import noise

CELLS = synthetic.workloads(seqs=(256, 512, 1024, 2048), directions=("forward",))


def test_the_noise_floor_grows_with_the_noise(tmp_path):
    """The floor is the spread between the control and its twin: small where samples are quiet, large where not."""
    quiet = noise(attnbench.load(synthetic.make_run(tmp_path / "quiet", cells=CELLS, noise=0.001)))
    loud = noise(attnbench.load(synthetic.make_run(tmp_path / "loud", cells=CELLS, noise=0.1)))
    assert quiet.pairs == loud.pairs == len(CELLS)
    assert quiet.floor < 0.01 < loud.floor < 0.2


def test_the_floor_is_the_ratio_between_control_and_twin(tmp_path):
    """With one pair, the floor is exactly how far the two medians lie apart, and is said in percent."""
    frame = attnbench.load(synthetic.make_run(tmp_path, cells=CELLS[:1], variants=("sdpa",)))
    control, twin = (frame.loc[frame["control"] == flag, "latency_ms"].iloc[0] for flag in (True, False))
    found = noise(frame)
    assert found.floor == pytest.approx(max(control / twin, twin / control) - 1)
    assert f"{found.floor:.1%} over 1 pair," in str(found)


def test_without_a_control_the_floor_is_unknown(tmp_path):
    """No control means no number, and the note says so."""
    found = noise(attnbench.load(synthetic.make_run(tmp_path, cells=CELLS[:1], baseline=None)))
    assert found.floor is None
    assert "unknown" in str(found)
