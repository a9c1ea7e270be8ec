"""Tests that the diagnosis of a wrong answer names the right mistake, and no other."""

import pytest
import torch
from test_gate import verdict_on

from attnbench import Mask, Workload

PLAIN = Workload(4, 130, 16, kv_heads=2)
CAUSAL = Workload(4, 130, 16, kv_heads=2, seq_k=150, mask=Mask("causal"))


def attention(query, key, value, seen, scale):
    """Compute attention in float64 with a mask of shape (Sq, Sk)."""
    group = query.shape[1] // key.shape[1]
    key, value = (tensor.double().repeat_interleave(group, 1) for tensor in (key, value))
    scores = query.double() @ key.transpose(-1, -2) * scale
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value).to(query.dtype)


def reason_for(workload, change_mask=lambda seen: seen, factor=1.0):
    """Return the reason that the gate gives for rejecting attention with a changed mask or scale."""

    def wrong(query, key, value, workload):
        rows, columns = torch.arange(workload.seq_q)[:, None], torch.arange(workload.seq_k)[None]
        last = rows + workload.seq_k - workload.seq_q if workload.mask.is_causal else workload.seq_k
        return attention(query, key, value, change_mask(columns <= last), workload.effective_scale * factor)

    return verdict_on(wrong, workload).reason


@pytest.mark.parametrize("workload", [PLAIN, CAUSAL], ids=["none", "causal"])
@pytest.mark.parametrize("factor", [1.02, 0.9, 1.3])
def test_a_wrong_factor_of_the_scores_is_named(workload, factor):
    """The reason gives the factor by which the scores are wrong, and does not mention the mask."""
    reason = reason_for(workload, factor=factor)
    assert f"likely bug: the scores are multiplied by an extra factor of {factor:.3g}" in reason
    assert "mask" not in reason


@pytest.mark.parametrize(
    ("change_mask", "bug"),
    [
        (torch.ones_like, "the mask is ignored"),
        (lambda seen: seen & seen.roll(-1, 1), "the last visible key is left out"),
        (lambda seen: seen | seen.roll(1, 1), "one key too many is seen on the right"),
    ],
)
def test_a_wrong_mask_is_named(change_mask, bug):
    """The reason says whether the mask is ignored or off by one."""
    assert f"likely bug: {bug}" in reason_for(CAUSAL, change_mask)


def test_an_error_that_no_mistake_explains_has_no_likely_bug():
    """If no common mistake explains an error, the reason names no bug."""

    def noisy(query, key, value, workload):
        seen = torch.ones(workload.seq_q, workload.seq_k, dtype=torch.bool)
        right = attention(query, key, value, seen, workload.effective_scale)
        return right + 0.01 * torch.randn_like(right)

    reason = verdict_on(noisy, PLAIN).reason
    assert reason
    assert "likely bug" not in reason
