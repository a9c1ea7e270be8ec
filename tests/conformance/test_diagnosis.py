"""The guess at the bug names the mistake that was made, and none that was not."""

import pytest
import torch
from test_gate import verdict_on

from attnbench import Mask, Workload

PLAIN = Workload(4, 130, 16, kv_heads=2)
CAUSAL = Workload(4, 130, 16, kv_heads=2, seq_k=150, mask=Mask("causal"))


def attention(query, key, value, seen, scale):
    """Attend in float64 under a mask (Sq, Sk)."""
    group = query.shape[1] // key.shape[1]
    key, value = (tensor.double().repeat_interleave(group, 1) for tensor in (key, value))
    scores = query.double() @ key.transpose(-1, -2) * scale
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value).to(query.dtype)


def told(workload, bend=lambda seen: seen, stretch=1.0):
    """Give the verdict's reason for attention with its mask and its scale changed."""

    def wrong(query, key, value, workload):
        rows, columns = torch.arange(workload.seq_q)[:, None], torch.arange(workload.seq_k)[None]
        last = rows + workload.seq_k - workload.seq_q if workload.mask.is_causal else workload.seq_k
        return attention(query, key, value, bend(columns <= last), workload.effective_scale * stretch)

    return verdict_on(wrong, workload).reason


@pytest.mark.parametrize("workload", [PLAIN, CAUSAL], ids=["none", "causal"])
@pytest.mark.parametrize("stretch", [1.02, 0.9, 1.3])
def test_scores_that_are_a_factor_off_are_told_as_such(workload, stretch):
    """A wrong factor before the softmax is named with its size, and no mask is blamed."""
    reason = told(workload, stretch=stretch)
    assert f"likely bug: the scores are {stretch:.3g} times the right ones" in reason
    assert "mask" not in reason


@pytest.mark.parametrize(
    ("bend", "bug"),
    [
        (torch.ones_like, "the mask is ignored"),
        (lambda seen: seen & seen.roll(-1, 1), "the last visible key is left out"),
        (lambda seen: seen | seen.roll(1, 1), "one key too many is seen at the right"),
    ],
)
def test_a_wrong_mask_is_told(bend, bug):
    """A mask that is ignored or off by one is named."""
    assert f"likely bug: {bug}" in told(CAUSAL, bend)


def test_what_no_mistake_explains_is_not_guessed_at():
    """An error that none of the usual mistakes gives is told without a guess."""

    def noisy(query, key, value, workload):
        seen = torch.ones(workload.seq_q, workload.seq_k, dtype=torch.bool)
        right = attention(query, key, value, seen, workload.effective_scale)
        return right + 0.01 * torch.randn_like(right)

    reason = verdict_on(noisy, PLAIN).reason
    assert reason
    assert "likely bug" not in reason
