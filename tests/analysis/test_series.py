"""Series: groups of cells that differ only in variant, sequence length and possibly batch."""

import attnbench
import synthetic
from attnbench.analysis.series import series
from attnbench.workloads.workload import Workload


def loaded(tmp_path, cells):
    """Write and load a run of one variant on the given workloads."""
    return attnbench.load(synthetic.make_run(tmp_path, cells=cells, variants=("sdpa",), baseline=None, rounds=4))


def test_each_setting_is_a_series(tmp_path):
    """Each combination of mask and direction has its own series, which contains all lengths."""
    found = series(loaded(tmp_path, synthetic.workloads()))
    assert len(found) == 4
    assert all(one.frame["length"].nunique() == 4 for one in found)


def test_a_constant_number_of_tokens_is_one_series(tmp_path):
    """Cells form one series if the batch shrinks as the length grows, as in FlashAttention's benchmarks."""
    cells = [Workload(heads=2, head_dim=64, batch=4096 // seq, seq_q=seq) for seq in (512, 1024, 2048)]
    (one,) = series(loaded(tmp_path, cells))
    assert one.shape == "B8 to 2 H2 D64"


def test_several_batches_at_one_length_split_by_batch(tmp_path):
    """If a length was measured with several batches, there is a series for each batch."""
    found = series(loaded(tmp_path, synthetic.workloads(batches=(1, 4), masks=("none",), directions=("forward",))))
    assert sorted(one.shape for one in found) == ["B1 H8 D64", "B4 H8 D64"]


def test_decode_and_cross_attention_are_separate_series_over_the_longer_length(tmp_path):
    """Decode cells (one query, many keys) and cross-attention cells (other unequal lengths) are in separate series.

    The length of a cell is the larger of seq_q and seq_k.
    """
    cells = [Workload(heads=8, kv_heads=2, head_dim=64, seq_q=1, seq_k=seq) for seq in (512, 1024)]
    cells += [Workload(heads=8, head_dim=64, seq_q=seq, seq_k=77) for seq in (512, 1024)]
    shapes = {one.shape: sorted(one.frame["length"]) for one in series(loaded(tmp_path, cells))}
    assert shapes == {"B1 H8/2 D64 decode": [512, 1024], "B1 H8 D64 cross": [512, 1024]}
