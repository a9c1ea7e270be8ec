"""Findings are said from rows alone; figures are drawn of them."""

import math

import pytest

from attnbench.errors import AttnbenchError, UsageError
from attnbench.study import MODULES, Settings, Study, find_study, gpus, make
from attnbench.study.wording import bytes_text, exponent, listed, number


def row(variant="naive", **fields):
    """Make one timed cell's row."""
    return {
        "variant": variant, "exact": True, "device_name": "a device", "batch": 1, "heads": 8, "seq_q": 128,
        "head_dim": 64, "dtype": "float32", "mask": "causal", "direction": "forward", "latency_ms": 1.0,
        "latency_low_ms": 0.9, "latency_high_ms": 1.1, "peak_bytes": 1 << 20, "saved_bytes": 0, "flops": 2_000_000_000,
        "bytes": 100, **fields,
    }  # fmt: skip


def growing(variant="naive", power=2.0, **fields):
    """Make rows of four lengths whose latency grows as length ** power."""
    return [row(variant, seq_q=n, latency_ms=(n / 128) ** power, **fields) for n in (128, 256, 512, 1024)]


@pytest.mark.parametrize("name", MODULES)
def test_each_study_asks_a_question(name):
    """A study is found by its name and asks a question."""
    study = find_study(name)
    assert study.name == name
    assert study.question.endswith("?")


def test_unknown_study_names_the_nearest():
    """A misspelt study comes with the nearest one."""
    with pytest.raises(UsageError, match="unknown study 'memroy': did you mean 'memory'"):
        find_study("memroy")


def test_context_says_exponent_and_ends():
    """`context` gives each variant's latency at both ends and the power that it grows with."""
    said = find_study("context").conclude(growing("naive", 2.0) + growing("quick", 1.0))
    assert "naive goes from 1.00 ms at 128 tokens to 64.0 ms at 1k, 64.0 times for 8.00 times the context" in said
    assert "power of 2.00" in said
    assert "power of 1.00" in said


def test_heads_names_fastest_and_slowest():
    """`heads` names for each variant the number of heads that is fastest and the one that is slowest."""
    rows = [row(heads=h, head_dim=512 // h, latency_ms=t) for h, t in ((1, 2.0), (8, 1.0), (32, 4.0))]
    said = find_study("heads").conclude(rows)
    assert "is fastest with 8 (1.00 ms) and slowest with 32 (4.00 ms, 4.00 times as long)" in said
    assert "width of 512" in said


def test_bidirectional_compares_with_the_pairs_left():
    """`bidirectional` sets the causal ratio beside the share of pairs that the mask leaves."""
    rows = growing(flops=200, mask="none") + [{**r, "latency_ms": 0.75 * r["latency_ms"]} for r in growing(flops=101)]
    said = find_study("bidirectional").conclude(rows)
    assert "leaves 50.5% of the pairs" in said
    assert "naive takes 0.750 times as long at 1k tokens" in said
    assert "nothing to compare" in find_study("bidirectional").conclude(growing())


def test_memory_says_growth_and_what_fits():
    """`memory` says bytes, how they grow and how many sequences fit."""
    rows = [{**r, "sequence_bytes": r["seq_q"] ** 2, "largest_batch": 3} for r in growing()]
    said = find_study("memory").conclude(rows)
    assert "naive needs 1.00 MiB for one sequence of 1k tokens, growing as length to the power of 2.00" in said
    assert "so that 3 fit" in said


def test_parallelism_sets_recurrent_against_attention():
    """`parallelism` compares a recurrent layer's time a token with the fastest attention at both ends."""
    rows = growing("sdpa", 1.0) + [{**r, "exact": False} for r in growing("lstm", 2.0)]
    said = find_study("parallelism").conclude(rows)
    assert "lstm takes 7.81 against 7.81 microseconds of sdpa at 128 tokens (1.00 times)" in said
    assert "62.5 against 7.81 microseconds of sdpa at 1k tokens (8.00 times)" in said
    assert "nothing to compare" in find_study("parallelism").conclude(growing())


@pytest.mark.parametrize("name", ["heads", "context", "bidirectional", "memory", "parallelism"])
def test_figures_are_drawn(name, tmp_path):
    """Each timed study draws its rows, one line a variant."""
    rows = [{**r, "sequence_bytes": 1 << 20, "largest_batch": 5} for r in growing() + growing(mask="none")]
    figure = find_study(name).draw(rows + [{**r, "variant": "other"} for r in rows])
    figure.savefig(tmp_path / "figure.png")
    labels = {line.get_label() for axes in figure.axes for line in axes.get_lines()}
    assert labels >= {"naive", "other"}


def test_study_without_times_is_an_error(tmp_path):
    """A study of which no cell gave a time says so and names the folder."""
    empty = Study("empty", "Is there anything?", lambda settings, folder: [], lambda rows: None, lambda rows: "")
    with pytest.raises(AttnbenchError, match=r"study empty: no cell gave a time; .*study-empty"):
        make(empty, Settings(tmp_path))


def test_numbers_read_like_numbers():
    """Numbers have three digits, bytes a unit, lists an 'and', and powers come from two points."""
    assert [number(x) for x in (0.01234, 1.0, 12.345, 123.4, 1234567.0, 0)] == [
        "0.0123", "1.00", "12.3", "123", "1.23e+06", "0",
    ]  # fmt: skip
    assert bytes_text(1536) == "1.50 KiB"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert math.isclose(exponent((1, 3), (4, 48)), 2)


def split_rows(numbers=(1, 2)):
    """Make a run on one device and one on two, the batch's slower one."""
    times = {(1, "batch"): 10.0, (2, "batch"): 6.25, (2, "heads"): 5.0}
    timed = [row(batch=4, gpus=n, split=split, latency_ms=t) for (n, split), t in times.items() if n in numbers]
    return gpus.with_efficiency(gpus.by_split(timed, {"batch": 4, "heads": 8}))


def test_gpus_gives_efficiency():
    """Efficiency is one device's time over all devices' together, split by split."""
    found = {(r["split"], r["devices"]): (r["latency_ms"], r["efficiency"]) for r in split_rows()}
    assert found == {
        ("batch", 1): (10.0, 1.0), ("heads", 1): (10.0, 1.0), ("batch", 2): (6.25, 0.8), ("heads", 2): (5.0, 1.0),
    }  # fmt: skip


def test_gpus_says_gain_and_efficiency():
    """`gpus` says how much faster the most devices are, split by split, and that one device splits nothing."""
    said = gpus.conclude(split_rows())
    assert "with a batch of 4 split, naive is 1.60 times as fast (80% scaling efficiency)" in said
    assert "with heads of 8 split, naive is 2.00 times as fast (100% scaling efficiency)" in said
    assert "nothing was split" in gpus.conclude(split_rows(numbers=(1,)))
    assert {line.get_label() for line in gpus.draw(split_rows()).axes[0].get_lines()} == {
        "naive, by batch", "naive, by heads",
    }  # fmt: skip


def test_gpus_counts_powers_of_two_that_divide():
    """Devices are tried in powers of two, as far as they are there and divide batch and heads."""
    assert gpus.counts(5, {"batch": 8, "heads": 8}) == [1, 2, 4]
    assert gpus.counts(4, {"batch": 8, "heads": 2}) == [1, 2]
    assert gpus.counts(1, {"batch": 8, "heads": 2}) == [1]
    assert gpus.grids({"batch": 4, "heads": 8}, [1, 2]) == [
        {"batch": 4, "heads": 8, "mask": "causal", "gpus": [1, 2], "split": ["batch", "heads"]}
    ]
