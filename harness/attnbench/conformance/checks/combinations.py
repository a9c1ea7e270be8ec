"""Check combinations of features that together cover every pair of choices for two features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.conformance.check import check
from attnbench.conformance.check_workloads import DTYPES, covering, workload
from attnbench.conformance.checks.answers import compare_with_reference

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload

QUICK_COUNT = 12  # number of combinations tested at the quick level
CHOICES: dict[str, list[Any]] = {
    "mask": [
        "none", "causal", "causal-top-left", "window:7:0", "window:20:13", "window:64:0", "window:300:0",
        "window:1000:0", "window:0:1000", "prefix:10", "prefix:100", "padding", "document",
    ],
    "lengths": [
        (100, 100), (128, 128), (64, 200), (150, 70), (256, 256), (4, 150), (1, 130), (33, 257), (1, 1100), (16, 1024),
        (400, 400),
    ],
    "heads": [(4, 4), (4, 1), (6, 2), (1, 1), (9, 3), (20, 4), (16, 1), (32, 2)],
    "widths": [(32, 32), (64, 64), (80, 80), (40, 24), (16, 48), (128, 128), (72, 72), (50, 50), (36, 20)],
    "scores": [
        {}, {"scale": 0.3}, {"softcap": 2.0}, {"softcap": 50.0}, {"alibi": True},
        {"scale": 0.4, "softcap": 3.0, "alibi": True},
    ],
    "dtype": [*DTYPES],
    "batch": [1, 3, 12],
    "direction": ["forward_backward", "forward"],
}  # fmt: skip


def _combined(choice: dict[str, Any]) -> Workload:
    """Build the workload for one choice per feature. With a `document` mask, it has as many keys as queries."""
    seq_q, seq_k = choice["lengths"]
    heads, kv_heads = choice["heads"]
    head_dim, head_dim_v = choice["widths"]
    return workload(
        seq_q=seq_q,
        seq_k=seq_q if choice["mask"] == "document" else seq_k,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        head_dim_v=head_dim_v,
        **choice["scores"],
        **{name: choice[name] for name in ("mask", "dtype", "batch", "direction")},
    )


COMBINED = [_combined(choice) for choice in covering(CHOICES)]


@check(
    "combinations",
    demands="any two choices of mask, lengths, heads, widths, scores, dtype, batch and direction work together",
    why="features that work alone can fail together, and there are too many pairs to list by hand",
    usual_bug="a fast path for one feature ignores another feature",
    remedy="start from the workload that failed, and remove one feature after another",
    quick=COMBINED[:QUICK_COUNT],
    full=COMBINED[QUICK_COUNT:],
)
def combinations(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference for a combination of features."""
    compare_with_reference(subject, workload)
