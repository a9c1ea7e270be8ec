"""Masks and their notation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench import Mask
from attnbench.errors import UsageError, WorkloadError

TEXTS = st.one_of(
    st.sampled_from(["none", "causal", "causal-top-left", "padding", "document"]),
    st.builds("window:{}:{}".format, st.integers(0, 9999), st.integers(0, 9999)),
    st.builds("prefix:{}".format, st.integers(0, 9999)),
)


@given(TEXTS)
def test_text_round_trip(text):
    """`parse` and `str` are inverses of each other."""
    assert str(Mask.parse(text)) == text
    assert Mask.parse(str(Mask.parse(text))) == Mask.parse(text)


def test_window_reads_left_then_right():
    """In `window:L:R`, the first number is the window's size to the left, and the second is its size to the right."""
    assert Mask.parse("window:128:3") == Mask("window", left=128, right=3)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("casual", "causal"), ("windw:1:2", "window:L:R"), ("prefix", "prefix:N"), ("causal-top", "causal-top-left")],
)
def test_a_misspelt_mask_is_refused_with_the_nearest(text, nearest):
    """A misspelt mask is rejected with an error that suggests the mask with the most similar name."""
    with pytest.raises(WorkloadError, match="mask") as refusal:
        Mask.parse(text)
    assert repr(text) in str(refusal.value)
    assert repr(nearest) in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["", "xyzzy", "window:-1:0", "window:1", "window:1:2:3", "prefix:1.5", "causal ", "NONE"]
)
def test_no_mask_is_guessed(text):
    """Parsing a string that is not a valid mask raises a usage error, even if the string is similar to one."""
    with pytest.raises(UsageError):
        Mask.parse(text)


@pytest.mark.parametrize("sizes", [{"left": -1}, {"right": -2}])
def test_negative_window_is_refused(sizes):
    """Building a window mask from its fields raises an error if a window size is negative."""
    with pytest.raises(WorkloadError, match="0 or more"):
        Mask("window", **sizes)


def test_only_bottom_right_causal_is_causal():
    """`is_causal` is true only for the bottom-right aligned causal mask."""
    texts = ["none", "causal", "causal-top-left", "window:9:0", "prefix:0", "padding", "document"]
    assert [text for text in texts if Mask.parse(text).is_causal] == ["causal"]


def test_seeded_masks():
    """`is_seeded` is true only for `padding` and `document`, which have seeded lengths."""
    texts = ["none", "causal", "causal-top-left", "window:9:0", "prefix:4", "padding", "document"]
    assert [text for text in texts if Mask.parse(text).is_seeded] == ["padding", "document"]
