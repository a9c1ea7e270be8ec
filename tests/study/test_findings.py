"""The findings and figures that studies make from given rows."""

import math

import pytest

from attnbench.errors import AttnbenchError, UsageError
from attnbench.study import MODULES, Settings, Study, find_study, gpus, make
from attnbench.study.study import bytes_text, exponent, listed, number


def row(variant="naive", **fields):
    """Return the row of a timed cell, with the given fields added or replaced."""
    return {
        "variant": variant, "exact": True, "device_name": "a device", "batch": 1, "heads": 8, "seq_q": 128,
        "head_dim": 64, "dtype": "float32", "mask": "causal", "direction": "forward", "latency_ms": 1.0,
        "latency_low_ms": 0.9, "latency_high_ms": 1.1, "peak_bytes": 1 << 20, "saved_bytes": 0, "flops": 2_000_000_000,
        "bytes": 100, **fields,
    }  # fmt: skip


def growing(variant="naive", power=2.0, **fields):
    """Return rows for four sequence lengths, with a latency of 1 ms at length 128 that grows as length ** power."""
    return [row(variant, seq_q=n, latency_ms=(n / 128) ** power, **fields) for n in (128, 256, 512, 1024)]


@pytest.mark.parametrize("name", MODULES)
def test_each_study_asks_a_question(name):
    """`find_study` returns each study by its name, and each study's question ends with a question mark."""
    study = find_study(name)
    assert study.name == name
    assert study.question.endswith("?")


def test_unknown_study_names_the_nearest():
    """A misspelt name raises a UsageError that suggests the nearest name."""
    with pytest.raises(UsageError, match="unknown study 'memroy': did you mean 'memory'"):
        find_study("memroy")


def test_context_states_the_exponent_and_both_ends():
    """`context` states each variant's latency at the shortest and the longest length, and its growth exponent."""
    finding = find_study("context").conclude(growing("naive", 2.0) + growing("quick", 1.0))
    assert "naive goes from 1.00 ms at 128 tokens to 64.0 ms at 1k, which is 64.0 times as long" in finding
    assert "power of 2.00" in finding
    assert "power of 1.00" in finding


def test_heads_names_the_fastest_and_the_slowest_number_of_heads():
    """For each variant, `heads` states which numbers of heads have the lowest and the highest latency."""
    rows = [row(heads=h, head_dim=512 // h, latency_ms=t) for h, t in ((1, 2.0), (8, 1.0), (32, 4.0))]
    finding = find_study("heads").conclude(rows)
    assert "is fastest with 8 (1.00 ms) and slowest with 32 (4.00 ms, 4.00 times as long)" in finding
    assert "width of 512" in finding


def test_bidirectional_compares_latency_with_the_visible_pairs():
    """`bidirectional` states the latency ratio and the share of query-key pairs that the mask leaves visible."""
    rows = growing(flops=200, mask="none") + [{**r, "latency_ms": 0.75 * r["latency_ms"]} for r in growing(flops=101)]
    finding = find_study("bidirectional").conclude(rows)
    assert "leaves 50.5% of the query-key pairs" in finding
    assert "naive takes 0.750 times as long at 1k tokens" in finding
    assert "nothing to compare" in find_study("bidirectional").conclude(growing())


def test_memory_states_the_growth_and_how_many_sequences_fit():
    """`memory` states how much memory a sequence needs, how this grows with the length, and how many sequences fit."""
    rows = [{**r, "sequence_bytes": r["seq_q"] ** 2, "largest_batch": 3} for r in growing()]
    finding = find_study("memory").conclude(rows)
    assert "naive needs 1.00 MiB for one sequence of 1k tokens, growing as the length to the power of 2.00" in finding
    assert "so 3 such sequences fit" in finding


def test_parallelism_compares_recurrent_layers_with_attention():
    """`parallelism` compares a recurrent layer's time per token with the fastest attention's at the same length."""
    rows = growing("sdpa", 1.0) + [{**r, "exact": False} for r in growing("lstm", 2.0)]
    finding = find_study("parallelism").conclude(rows)
    assert "lstm takes 7.81 microseconds at 128 tokens (1.00 times as long as sdpa, at 7.81)" in finding
    assert "62.5 microseconds at 1k tokens (8.00 times as long as sdpa, at 7.81)" in finding
    assert "nothing to compare" in find_study("parallelism").conclude(growing())


@pytest.mark.parametrize("name", ["heads", "context", "bidirectional", "memory", "parallelism"])
def test_figures_are_drawn(name, tmp_path):
    """Each timed study's figure has a line for each variant."""
    rows = [{**r, "sequence_bytes": 1 << 20, "largest_batch": 5} for r in growing() + growing(mask="none")]
    figure = find_study(name).draw(rows + [{**r, "variant": "other"} for r in rows])
    figure.savefig(tmp_path / "figure.png")
    labels = {line.get_label() for axes in figure.axes for line in axes.get_lines()}
    assert labels >= {"naive", "other"}


def test_a_study_without_a_timed_cell_is_an_error(tmp_path):
    """If no cell of a study was timed, the error says so and names the folder with the records."""
    empty = Study("empty", "Is anything timed?", lambda settings, folder: [], lambda rows: None, lambda rows: "")
    with pytest.raises(AttnbenchError, match=r"study empty: no cell was timed; see the records in .*study-empty"):
        make(empty, Settings(tmp_path))


def test_numbers_are_formatted_for_sentences():
    """Numbers have three significant digits, byte counts have a unit, and `and` precedes the last item of a list.

    `exponent` returns the exponent of the curve through two points.
    """
    assert [number(x) for x in (0.01234, 1.0, 12.345, 123.4, 1234567.0, 0)] == [
        "0.0123", "1.00", "12.3", "123", "1.23e+06", "0",
    ]  # fmt: skip
    assert bytes_text(1536) == "1.50 KiB"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert math.isclose(exponent((1, 3), (4, 48)), 2)


def split_rows(numbers=(1, 2)):
    """Return rows for the given numbers of devices, in which splitting the batch is slower than splitting the heads."""
    times = {(1, "batch"): 10.0, (2, "batch"): 6.25, (2, "heads"): 5.0}
    timed = [row(batch=4, gpus=n, split=split, latency_ms=t) for (n, split), t in times.items() if n in numbers]
    return gpus.with_efficiency(gpus.by_split(timed, {"batch": 4, "heads": 8}))


def test_gpus_computes_the_efficiency_of_each_split():
    """A split's efficiency is its speed-up over one device, divided by the number of devices."""
    computed = {(r["split"], r["devices"]): (r["latency_ms"], r["efficiency"]) for r in split_rows()}
    assert computed == {
        ("batch", 1): (10.0, 1.0), ("heads", 1): (10.0, 1.0), ("batch", 2): (6.25, 0.8), ("heads", 2): (5.0, 1.0),
    }  # fmt: skip


def test_gpus_states_speed_up_and_efficiency():
    """`gpus` reports each split's speed-up and efficiency. With only one device, it says that nothing was split."""
    finding = gpus.conclude(split_rows())
    assert "when the batch of 4 is split, naive is 1.60 times as fast (80% scaling efficiency)" in finding
    assert "when the 8 heads are split, naive is 2.00 times as fast (100% scaling efficiency)" in finding
    assert "nothing was split" in gpus.conclude(split_rows(numbers=(1,)))
    assert {line.get_label() for line in gpus.draw(split_rows()).axes[0].get_lines()} == {
        "naive, by batch", "naive, by heads",
    }  # fmt: skip


def test_gpus_takes_powers_of_two_that_divide_batch_and_heads():
    """`gpus` uses the powers of two, up to the number of devices, that divide the batch and the number of heads."""
    assert gpus.counts(5, {"batch": 8, "heads": 8}) == [1, 2, 4]
    assert gpus.counts(4, {"batch": 8, "heads": 2}) == [1, 2]
    assert gpus.counts(1, {"batch": 8, "heads": 2}) == [1]
    assert gpus.grids({"batch": 4, "heads": 8}, [1, 2]) == [
        {"batch": 4, "heads": 8, "mask": "causal", "gpus": [1, 2], "split": ["batch", "heads"]}
    ]
