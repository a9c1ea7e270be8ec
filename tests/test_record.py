"""Records: which values the schema accepts and refuses."""

import json
import math

import pytest

from attnbench import Workload
from attnbench.errors import RecordError
from attnbench.record import SCHEMA, STATUSES, Record


def fields(**changes):
    """Return the fields of a valid record, with the given fields changed."""
    return {
        "record_id": "r1", "run_id": "run", "cell_id": "c1", "variant": "naive", "plugin": "attnbench_variants.naive",
        "plugin_sha256": "00", "workload": Workload(heads=2, seq_q=8, head_dim=4, mask="window:2:0"), "device": "cpu",
        "device_name": "a CPU", "environment_id": "e1", "protocol_id": "p1", "status": "ok", "phase": "done",
        "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:01Z", "samples_ns": (3.0, 1.5, 2.0),
        "block_sizes": (2, 1), "block_rounds": (0, 1), **changes,
    }  # fmt: skip


def test_a_record_survives_a_round_trip():
    """A record that is read from its line equals the original, including tuples and the workload."""
    record = Record(**fields(kernels=("a", "b"), error={"rule": "row", "worst_ratio": None}, flags=("noisy",)))
    line = record.to_line()
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    assert Record.from_json(json.loads(line)) == record


def test_a_line_is_ascii_without_nan():
    """A record's line is ASCII, so that it does not depend on the locale, and a record with NaN is refused."""
    assert Record(**fields(device_name="Tësla\n\u2028")).to_line().isascii()
    with pytest.raises(ValueError, match="JSON"):
        Record(**fields(peak_bytes=None, telemetry={"power_w": math.nan})).to_line()


def test_unknown_fields_are_ignored():
    """A field that a later version added is ignored."""
    stored = json.loads(Record(**fields()).to_line())
    assert Record.from_json({**stored, "from_the_future": 1}) == Record(**fields())


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "ok"])
@pytest.mark.parametrize("times", ["samples_ns", "cold_samples_ns"])
def test_only_ok_records_have_times(status, times):
    """Samples are refused for every status except ok."""
    with pytest.raises(RecordError, match="yet it has times"):
        Record(**fields(status=status, samples_ns=(), block_sizes=(), block_rounds=()) | {times: (1.0,)})


def test_ok_records_must_have_times():
    """A record with status ok and no samples is refused."""
    with pytest.raises(RecordError, match="yet it has no times"):
        Record(**fields(samples_ns=(), block_sizes=(), block_rounds=()))


@pytest.mark.parametrize("sample", [0, -1.0, math.nan, math.inf, True, "1", None])
def test_samples_are_positive_numbers(sample):
    """A sample that is not a positive, finite number is refused, and the message shows it."""
    with pytest.raises(RecordError, match="expected a positive number"):
        Record(**fields(samples_ns=(1.0, sample), block_sizes=(2,), block_rounds=(0,)))


def test_block_sizes_sum_to_the_samples():
    """The block sizes must add up to the number of samples, and each block must have a round."""
    with pytest.raises(RecordError, match="sum to the number of samples"):
        Record(**fields(block_sizes=(2, 2)))
    with pytest.raises(RecordError, match="differ in length"):
        Record(**fields(block_rounds=(0,)))


def test_an_unknown_status_or_schema_is_refused():
    """An unknown status is refused, and so is the schema of another version."""
    with pytest.raises(RecordError, match="status is 'fine'"):
        Record(**fields(status="fine"))
    with pytest.raises(RecordError, match=f"this version reads {SCHEMA}"):
        Record(**fields(schema=SCHEMA + 1))


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"record_id": "r9"},
        [],
        None,
        3,
        fields(workload={"heads": 0, "seq_q": 1, "head_dim": 1}),
        fields(workload=None),
    ],
)
def test_malformed_json_is_a_record_error(stored):
    """Any JSON value that is not a valid record raises RecordError."""
    with pytest.raises(RecordError, match="record"):
        Record.from_json(stored)


def test_the_schema_has_its_documented_fields():
    """A stored record has all the fields that readers rely on."""
    promised = (
        "schema record_id run_id cell_id variant plugin plugin_sha256 workload device device_name environment_id "
        "protocol_id status phase reason samples_ns first_call_ns cold_samples_ns peak_bytes saved_bytes "
        "harness_bytes flops bytes kernels error telemetry log started_at ended_at"
    )
    assert set(promised.split()) <= set(json.loads(Record(**fields()).to_line()))
