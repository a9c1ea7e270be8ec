"""Workloads: their FLOPs, their bytes, their ids, and the field values that are rejected."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attnbench import Mask, Workload
from attnbench.errors import WorkloadError

SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}
MASKS = st.one_of(
    st.sampled_from(["none", "causal", "causal-top-left", "padding", "document"]),
    st.builds("window:{}:{}".format, st.integers(0, 12), st.integers(0, 12)),
    st.builds("prefix:{}".format, st.integers(0, 14)),
)


@st.composite
def workloads(draw):
    """Draw a small workload. All masks, grouped heads, seq_q != seq_k and head_dim_v != head_dim can occur."""
    mask = draw(MASKS)
    kv_heads = draw(st.integers(1, 3))
    seq_q = draw(st.integers(0, 12))
    return Workload(
        batch=draw(st.integers(0, 3)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        seq_q=seq_q,
        seq_k=seq_q if mask == "document" else draw(st.integers(0, 12)),
        head_dim=draw(st.integers(1, 9)),
        head_dim_v=draw(st.integers(1, 9)),
        dtype=draw(st.sampled_from(sorted(SIZES))),
        mask=Mask.parse(mask),
        direction=draw(st.sampled_from(["forward", "backward", "forward_backward"])),
        scale=draw(st.sampled_from([None, 1.0, 0.5])),
        softcap=draw(st.sampled_from([None, 1.0, 50.0])),
        alibi=draw(st.booleans()),
        dropout=draw(st.sampled_from([0.0, 0.1, 0.5])),
    )


def dense(workload, sequence):
    """Return the visible pairs as a boolean array (seq_q, seq_k), computed directly from the mask's definition."""
    i, j = np.indices((workload.seq_q, workload.seq_k))
    last = i + workload.seq_k - workload.seq_q  # each row's key on the diagonal that ends at the bottom right
    kind, *numbers = str(workload.mask).split(":")
    first, second = (*(int(number) for number in numbers), 0, 0)[:2]
    if kind == "padding":
        return j < workload.key_lengths[sequence]
    if kind == "document":
        lengths = workload.document_lengths(sequence)
        document = np.repeat(np.arange(len(lengths)), lengths)
        return document[:, None] == document[None, :]
    return {
        "none": np.ones_like(i, dtype=bool),
        "causal": j <= last,
        "causal-top-left": j <= i,
        "window": (j >= last - first) & (j <= last + second),
        "prefix": (j <= last) | (j < first),
    }[kind]


@given(workloads())
@example(Workload(heads=1, seq_q=5, seq_k=2, head_dim=1, mask="causal"))
@example(Workload(heads=1, seq_q=1, seq_k=9, head_dim=1, mask="window:2:1"))
def test_visible_keys_are_the_dense_definition(workload):
    """`visible_keys` yields exactly the keys that are visible by the mask's definition."""
    for sequence in range(workload.batch):
        rows = list(workload.visible_keys(sequence))
        assert len(rows) == workload.seq_q
        for keys, visible in zip(rows, dense(workload, sequence), strict=True):
            assert list(keys) == np.flatnonzero(visible).tolist()


@given(workloads())
def test_flops_is_a_brute_force_count(workload):
    """`flops` counts one multiplication and one addition per visible pair and dimension of each product."""
    pairs = sum(int(dense(workload, sequence).sum()) for sequence in range(workload.batch))
    forward = backward = 0
    for _ in range(workload.heads):
        scores, output = 2 * pairs * workload.head_dim, 2 * pairs * workload.head_dim_v
        forward += scores + output
        recomputed, grad_query, grad_key, grad_weights, grad_value = scores, scores, scores, output, output
        backward += recomputed + grad_query + grad_key + grad_weights + grad_value
    expected = {"forward": forward, "backward": backward, "forward_backward": forward + backward}
    assert workload.visible_pairs == pairs
    assert workload.flops() == expected[workload.direction]


@given(workloads())
def test_bytes_is_a_brute_force_count(workload):
    """`bytes` is the size of all arrays that must be read or written, except keys and values that are not visible."""
    size, rows = SIZES[workload.dtype], workload.batch * workload.heads * workload.seq_q
    seen = sum(int(dense(workload, sequence).any(axis=0).sum()) for sequence in range(workload.batch))
    query, output = size * rows * workload.head_dim, size * rows * workload.head_dim_v
    key = size * seen * workload.kv_heads * workload.head_dim
    value = size * seen * workload.kv_heads * workload.head_dim_v
    log_sum_exp = 4 * rows
    forward_reads, forward_writes = query + key + value, output
    # The second `output` stands for the output's gradient, which has the same size.
    backward_reads = query + key + value + output + output + log_sum_exp
    backward_writes = query + key + value
    expected = {
        "forward": forward_reads + forward_writes,
        "backward": backward_reads + backward_writes,
        "forward_backward": forward_reads + forward_writes + log_sum_exp + backward_reads + backward_writes,
    }
    assert workload.bytes() == expected[workload.direction]


@pytest.mark.parametrize(
    ("mask", "seq_q", "seq_k", "pairs"),
    [
        ("none", 512, 2048, 512 * 2048),
        ("causal", 2048, 2048, 2048 * 2049 // 2),
        ("causal", 512, 2048, 512 * 2048 - 512 * 511 // 2),
        ("causal", 2048, 512, 512 * 513 // 2),
        ("causal-top-left", 512, 2048, 512 * 513 // 2),
        ("causal-top-left", 2048, 512, 512 * 513 // 2 + 1536 * 512),
        ("causal", 1, 4096, 4096),
        ("causal-top-left", 1, 4096, 1),
        ("window:128:0", 4096, 4096, 128 * 129 // 2 + (4096 - 128) * 129),
    ],
)
def test_visible_pairs_in_closed_form(mask, seq_q, seq_k, pairs):
    """At realistic sizes, the number of visible pairs agrees with the closed form."""
    assert Workload(heads=4, seq_q=seq_q, seq_k=seq_k, head_dim=64, mask=mask).visible_pairs == pairs


@given(workloads(), workloads())
def test_ids_are_injective(one, other):
    """Two workloads have the same id if and only if they are equal."""
    assert (one.id == other.id) == (one == other)


@given(workloads())
def test_ids_are_read_back(workload):
    """Parsing a workload's id returns the workload."""
    assert Workload.parse(workload.id) == workload


CHANGES = {
    "batch": 2, "heads": 16, "kv_heads": 4, "seq_q": 65, "seq_k": 63, "head_dim": 33, "head_dim_v": 31,
    "dtype": "float16", "mask": Mask.parse("prefix:3"), "direction": "backward", "scale": 1.0, "softcap": 30.0,
    "alibi": True, "dropout": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("field", CHANGES)
def test_each_field_is_in_the_id(field):
    """Workloads that differ in one field have different ids."""
    plain = Workload(heads=8, seq_q=64, head_dim=32)
    fields = {**plain.to_json(), field: str(CHANGES[field]) if field == "mask" else CHANGES[field]}
    assert Workload.from_json(fields).id != plain.id


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "b1-h8-s64-d32-float32-none-forward"),
        (
            {"batch": 2, "kv_heads": 2, "seq_k": 128, "head_dim_v": 16, "mask": "window:4:0", "direction": "backward"},
            "b2-h8-kv2-q64-k128-d32-v16-float32-window:4:0-backward",
        ),
        (
            {"scale": 1.0, "softcap": 50.0, "alibi": True, "dropout": 0.1},
            "b1-h8-s64-d32-float32-none-forward-scale1.0-softcap50.0-alibi-dropout0.1",
        ),
    ],
)
def test_ids_are_stable(fields, name):
    """The ids in published records never change."""
    assert Workload.from_json({"heads": 8, "seq_q": 64, "head_dim": 32, **fields}).id == name


def test_equal_numbers_have_one_id():
    """Workloads are equal and have the same id even if one has an integer where the other has an equal float."""
    whole = Workload(heads=1, seq_q=1, head_dim=1, scale=1, softcap=50, dropout=0)
    decimal = Workload(heads=1, seq_q=1, head_dim=1, scale=1.0, softcap=50.0, dropout=0.0)
    assert whole == decimal
    assert whole.id == decimal.id


def test_seeded_lengths_are_the_same_in_another_process():
    """Key lengths and document lengths depend only on the workload, so they are the same in another process."""
    program = (
        "from attnbench import Workload\n"
        "print(Workload(heads=1, batch=4, seq_q=64, head_dim=1, mask='padding').key_lengths)\n"
        "print(Workload(heads=1, batch=4, seq_q=64, head_dim=1, mask='document').document_lengths(3))\n"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    padding = Workload(heads=1, batch=4, seq_q=64, head_dim=1, mask="padding").key_lengths
    document = Workload(heads=1, batch=4, seq_q=64, head_dim=1, mask="document").document_lengths(3)
    assert there == f"{padding}\n{document}\n"


@given(st.integers(1, 8), st.integers(1, 300))
def test_padding_keeps_the_longest_full(batch, seq_k):
    """Under `padding`, the first sequence has all keys, and the others have at least a quarter of the keys."""
    lengths = Workload(heads=1, batch=batch, seq_q=1, seq_k=seq_k, head_dim=1, mask="padding").key_lengths
    assert len(lengths) == batch
    assert lengths[0] == seq_k
    assert all(max(1, seq_k // 4) <= length <= seq_k for length in lengths)


@given(st.integers(1, 300), st.integers(0, 5))
def test_documents_fill_the_sequence(seq, sequence):
    """No document is empty, and the document lengths add up to the sequence length."""
    lengths = Workload(heads=1, seq_q=seq, head_dim=1, mask="document").document_lengths(sequence)
    assert sum(lengths) == seq
    assert min(lengths) > 0


@given(workloads())
def test_json_round_trip(workload):
    """`from_json` restores a workload from the fields that `to_json` returns, and equal workloads have equal hashes."""
    again = Workload.from_json(workload.to_json())
    assert again == workload
    assert hash(again) == hash(workload)


def test_omitted_fields_follow_the_others():
    """Without kv_heads, seq_k and head_dim_v, a workload is plain self-attention."""
    workload = Workload(heads=8, seq_q=64, head_dim=32)
    assert (workload.kv_heads, workload.seq_k, workload.head_dim_v) == (8, 64, 32)
    assert workload.effective_scale == 32**-0.5


@pytest.mark.parametrize("field", ["batch", "heads", "kv_heads", "seq_q", "seq_k", "head_dim", "head_dim_v"])
@pytest.mark.parametrize("value", [-3, 1.5, "8", True, None])
def test_sizes_must_be_whole_numbers(field, value):
    """A size that is negative or not a whole number is rejected with a message that names the field and the value."""
    with pytest.raises(WorkloadError, match=f"{field} is {value!r}: expected a whole number"):
        Workload.from_json({"heads": 8, "seq_q": 64, "head_dim": 32, field: value})


@pytest.mark.parametrize("field", ["heads", "kv_heads", "head_dim", "head_dim_v"])
def test_zero_heads_are_refused(field):
    """A workload with zero heads or a head dimension of zero is rejected."""
    with pytest.raises(WorkloadError, match=f"{field} is 0"):
        Workload.from_json({"heads": 8, "seq_q": 64, "head_dim": 32, field: 0})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 6, "kv_heads": 4}, "heads is 6 and kv_heads is 4: heads must be a multiple"),
        ({"dtype": "float31"}, "unknown dtype 'float31': did you mean 'float32'"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"mask": "causall"}, "unknown mask 'causall': did you mean 'causal'"),
        ({"direction": "foward"}, "unknown direction 'foward': did you mean 'forward'"),
        ({"mask": "document", "seq_k": 65}, "mask document needs seq_q == seq_k, got 64 and 65"),
        ({"scale": 0.0}, "scale is 0.0: expected a positive number"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"softcap": -1.0}, "softcap is -1.0: expected a positive number"),
        ({"softcap": float("inf")}, "softcap is inf"),
        ({"dropout": 1.0}, "dropout is 1.0: expected 0 <= dropout < 1"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"head": 8}, "unknown workload field 'head': did you mean 'heads'"),
        ({"scale": "big"}, "scale is 'big': expected a positive number"),
        ({"dropout": "much"}, "dropout is 'much': expected 0 <= dropout < 1"),
        ({"alibi": "yes"}, "alibi is 'yes': expected true or false"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    """An invalid field is rejected with a one-line message that names the field, its value and what was expected."""
    with pytest.raises(WorkloadError) as refusal:
        Workload.from_json({"heads": 8, "seq_q": 64, "head_dim": 32, **fields})
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("field", ["heads", "seq_q", "head_dim"])
def test_needed_fields(field):
    """A workload without heads, seq_q or head_dim is rejected with a message that names the missing field."""
    fields = {"heads": 8, "seq_q": 64, "head_dim": 32}
    del fields[field]
    with pytest.raises(WorkloadError, match=f"no {field}"):
        Workload.from_json(fields)


@pytest.mark.parametrize("mask", ["none", "causal", "padding", "document", "window:2:1", "prefix:3"])
def test_an_empty_batch_has_no_visible_pairs(mask):
    """A batch without sequences has no key lengths and no visible pairs, whatever the mask."""
    workload = Workload.from_json({"batch": 0, "heads": 2, "seq_q": 20, "head_dim": 8, "mask": mask})
    assert workload.visible_pairs == 0
    assert workload.key_lengths == ()
