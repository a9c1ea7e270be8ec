from __future__ import annotations

import pytest

from attnbench.stats.roofline import MachineLimits, Peaks

CACHE = 1_000_000
LIMITS = MachineLimits({"float32": Peaks(1e9, 1e12), "bfloat16": Peaks(1e9, 4e12)}, CACHE)
WORK = {"dtype": "bfloat16", "tier": "fused", "flops": 0, "moved_bytes": 0, "flushed": False}


@pytest.mark.parametrize(
    ("work", "least_s"),
    [
        ({"flops": 4 * 10**9}, 1e-3),
        ({"flops": 4 * 10**9, "dtype": "float32"}, 0.25e-3),  # three passes of TF32
        ({"flops": 4 * 10**9, "tier": "quantised"}, 0.25e-3),
        ({"moved_bytes": 10**7}, 10e-3),  # does not fit in the cache
        ({"moved_bytes": 10**6, "flushed": True}, 1e-3),
        ({"flops": 4 * 10**9, "moved_bytes": 10**7}, 10e-3),
    ],
)
def test_a_time_below_half_of_the_roofline_is_implausible(work, least_s):
    """A call can't be twice as fast as the measured rates allow for its FLOPs and for its bytes in memory."""
    problem = LIMITS.implausible_time(0.49 * least_s, **{**WORK, **work})
    assert problem.startswith("too fast: a call took")
    assert "To check, look for work that the call leaves out" in problem
    assert LIMITS.implausible_time(0.51 * least_s, **{**WORK, **work}) is None


@pytest.mark.parametrize(
    ("limits", "work"),
    [
        (LIMITS, {"moved_bytes": 2 * CACHE}),
        (MachineLimits(LIMITS.peaks, None), {"moved_bytes": 10**12}),
        (MachineLimits({}, CACHE), {"flops": 10**15}),
        (MachineLimits({"bfloat16": Peaks(1e9, 1e9)}, CACHE), {"flops": 10**15}),
    ],
)
def test_nothing_is_implausible_if_too_little_is_known(limits, work):
    """Data may stay in the cache, and rates may be unknown; half precision may be slower than float32 on a CPU."""
    assert limits.implausible_time(1e-9, **{**WORK, **work}) is None
