"""Check random workloads. Hypothesis generates them and shrinks a failure to a minimal failing workload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.conformance.check import Failed, Skipped, check
from attnbench.conformance.check_workloads import DTYPES, workload
from attnbench.conformance.checks.answers import compare_with_reference
from attnbench.conformance.checks.needle import needle
from attnbench.conformance.cuda_errors import cuda_error
from attnbench.errors import WorkloadError
from attnbench.workloads.workload import Workload

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject

EXAMPLES = 150  # number of workloads drawn for each dtype
MAX_PAIRS = 4_000_000  # a workload with more query-key pairs, over all heads and sequences, gets a smaller batch


@check(
    "drawn",
    demands="answers for random workloads are correct; a failure is shrunk to a minimal failing workload",
    why="random draws contain combinations that the other checks don't list",
    usual_bug="two features work alone but not together",
    remedy="start from the workload that the reason names; no smaller one was found to fail",
    thorough=[workload(seq=8, dtype=dtype) for dtype in DTYPES],
)
def drawn(subject: Subject, workload: Workload) -> str:
    """Check random workloads with the same dtype as `workload`. A failure message names a minimal failing one."""
    try:
        import hypothesis
    except ImportError:
        raise Skipped("drawing workloads needs the package hypothesis (pip install hypothesis)") from None
    tried = 0

    @hypothesis.seed(subject.seed)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(_workloads(workload.dtype))
    def holds(candidate: Workload | None) -> None:
        nonlocal tried
        if candidate is None or subject.refusal(candidate) is not None:
            return
        tried += 1
        for compare in (compare_with_reference, needle.run):
            try:
                compare(subject, candidate)
            except Skipped:
                continue
            except Failed as failure:
                if cuda_error(failure) is not None:
                    raise _GpuLostError(failure.within(candidate.id)) from failure
                raise failure.within(f"{candidate.id} (the smallest that fails)") from failure

    try:
        holds()
    except _GpuLostError as lost:
        raise lost.failure from lost
    if not tried:
        raise Skipped(f"the variant supports none of the {EXAMPLES} workloads drawn in {workload.dtype}")
    return f"{tried} workloads drawn"


class _GpuLostError(BaseException):
    """Raised after a CUDA error. It is no Exception, so that Hypothesis does not go on to shrink the workload."""

    def __init__(self, failure: Failed) -> None:
        super().__init__(str(failure))
        self.failure = failure


def _workloads(dtype: str) -> Any:
    """Return a hypothesis strategy for small workloads. It generates None if the drawn fields contradict each other."""
    from hypothesis import strategies as st

    lengths = st.one_of(st.integers(1, 40), st.integers(1, 300))
    masks = st.one_of(
        st.sampled_from(["none", "causal", "causal-top-left", "padding", "document"]),
        st.builds("window:{}:{}".format, st.integers(0, 350), st.integers(0, 350)),
        st.builds("prefix:{}".format, st.integers(0, 300)),
    )

    def build(fields: dict[str, Any]) -> Workload | None:
        group, same = fields.pop("group"), fields.pop("same")
        fields["heads"] = group * fields["kv_heads"]
        if same or fields["mask"] == "document":
            fields["seq_k"] = fields["seq_q"]
        pairs = fields["heads"] * fields["seq_q"] * fields["seq_k"]
        fields["batch"] = min(fields["batch"], max(1, MAX_PAIRS // pairs))
        try:
            return Workload.from_json({**fields, "dtype": dtype})
        except WorkloadError:
            return None

    return st.fixed_dictionaries(
        {
            "seq_q": lengths,
            "seq_k": lengths,
            "same": st.booleans(),
            "batch": st.one_of(st.integers(1, 3), st.integers(1, 17)),
            "kv_heads": st.integers(1, 3),
            "group": st.one_of(st.integers(1, 3), st.integers(1, 16)),
            "head_dim": st.one_of(st.sampled_from([8, 16, 32, 40, 64, 80, 96, 128]), st.integers(8, 128)),
            "head_dim_v": st.sampled_from([0, 0, 8, 32, 64]),
            "mask": masks,
            "direction": st.sampled_from(["forward", "forward_backward"]),
            "scale": st.one_of(st.none(), st.sampled_from([0.05, 0.3, 1.0])),
            "softcap": st.one_of(st.none(), st.none(), st.sampled_from([0.5, 2.0, 30.0, 50.0])),
            "alibi": st.booleans(),
        }
    ).map(build)
