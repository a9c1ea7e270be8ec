"""The conformance suite, which runs each check on a variant with each of the check's workloads."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.check import LEVELS, Check, CheckResult, Failed, Hint, Level, Raised, Skipped
from attnbench.conformance.checks import CHECKS, DEMANDED
from attnbench.conformance.cuda_errors import REPORTED_LATE, cuda_error, gpu_failure
from attnbench.conformance.subject import Subject
from attnbench.errors import UsageError, WorkloadError, describe, is_out_of_memory, unknown

if TYPE_CHECKING:
    from attnbench.plugins.variant import Variant
    from attnbench.workloads.workload import Workload

TILE, PAGE = 128, 256  # some variants support only whole tiles of queries and keys, or whole pages of keys
MAX_SQUARE = 512  # largest length tried for variants that support only as many queries as keys
# Checks that need no reference, so they also run on variants whose `exact` is False.
CHECKS_WITHOUT_REFERENCE = ("empty", "fresh-output", "repeatable", "batch-invariant")


@dataclass(frozen=True)
class Case:
    """One test: a check on a workload."""

    check: Check
    workload: Workload

    @property
    def id(self) -> str:
        """The name of the test, such as `needle-b2-h4-...`."""
        return f"{self.check.name}-{self.workload.id}"


def find_check(name: str) -> Check:
    """Return the check with the given name.

    Raises UsageError, which suggests the nearest name, if there is no such check.
    """
    if name not in CHECKS:
        raise UsageError(str(unknown("check", name, CHECKS)))
    return CHECKS[name]


def cases(
    variant: Variant, device: str = "cpu", level: Level = "full", only: Iterable[str] | None = None
) -> list[Case]:
    """Return the tests of a variant, without duplicates, in the order of CHECKS or `only`.

    A workload that the variant does not support is replaced by the nearest supported one. The replacement may have
    another dtype, and has as few of these changes as possible: forward only, no grouped heads, head_dim 64, few
    queries, whole tiles, whole pages of keys, as many queries as keys.

    `only` names the checks to run (default: all of them). If the variant declares that new shapes are costly on the
    device, the tests are those of the next lower level or, for `quick`, those with one workload per kind of mask.
    Raises UsageError if the level or a check is unknown.
    """
    if level not in LEVELS:
        raise UsageError(str(unknown("level", level, LEVELS)))
    chosen = CHECKS.values() if only is None else [find_check(name) for name in only]
    subject = Subject(variant, device)
    nearest, costly = _Nearest(subject), subject.device_type in variant.costly_on
    found = (
        Case(check, nearest.to(workload))
        for check in chosen
        for workload in (_affordable(check, level) if costly else check.workloads(level))
    )
    return list({case.id: case for case in found}.values())


def _affordable(check: Check, level: Level) -> list[Workload]:
    """Return the workloads of the next lower level or, for `quick`, the first workload with each kind of mask."""
    if level != "quick":
        return check.workloads(LEVELS[LEVELS.index(level) - 1])
    return list({workload.mask.kind: workload for workload in reversed(check.quick)}.values())


def checks(
    variant: Variant,
    device: str = "cpu",
    level: Level = "full",
    *,
    seed: int = 0,
    only: Iterable[str] | None = None,
    plugin: str | None = None,
) -> Iterator[CheckResult]:
    """Run the suite on a variant and yield the result of each check on each workload.

    `level` is `quick`, `full` or `thorough`. `seed` changes all random values. `only` names the checks to run (default:
    all of them). `plugin` is the file or module that defines the variant; it appears in the `repro` commands.
    """
    for case in cases(variant, device, level, only):
        yield run_case(Subject(variant, device, seed), case, level=level, plugin=plugin)


def run_case(subject: Subject, case: Case, *, level: Level = "full", plugin: str | None = None) -> CheckResult:
    """Run one test and return its result. An error in the check itself fails only this test.

    If an earlier test has made the GPU unusable in this process, the test is skipped. If this test does so, it fails,
    even if the variant's answer is right.
    """
    if (failure := gpu_failure()) is not None:
        reason = f"not run, because this process can no longer use the GPU: {failure}"
        return CheckResult(case.check.name, case.workload.id, "skipped", reason, trait=case.check.trait, gpu_lost=True)
    started = time.perf_counter()
    try:
        result = _outcome(subject, case)
    except Exception as error:  # noqa: BLE001 - an error in one check must not stop the others
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"the check itself raised {describe(error)} ({last.filename}:{last.lineno})"
        lost = cuda_error(error) is not None
        result = CheckResult(case.check.name, case.workload.id, "failed", reason, gpu_lost=lost)
    result = _with_gpu_failure(result)
    return replace(
        result,
        remedy=case.check.remedy if result.status == "failed" else None,
        repro=repro(subject, case, level, plugin) if result.status in ("failed", "hint") else None,
        seconds=time.perf_counter() - started,
        trait=case.check.trait,
    )


def _with_gpu_failure(result: CheckResult) -> CheckResult:
    """Return the result of a test that just ended, as a failure if a CUDA error occurred, unless it was skipped."""
    failure = gpu_failure()
    if failure is None and not result.gpu_lost:
        return result
    if result.status == "skipped":
        return replace(result, gpu_lost=True)
    reason = result.reason if result.status == "failed" else f"after the test, the GPU reported {failure}"
    return replace(result, status="failed", reason=f"{reason}; {REPORTED_LATE}", gpu_lost=True)


def repro(subject: Subject, case: Case, level: Level, plugin: str | None = None) -> str:
    """Return the command line that runs only this test again.

    A worker sees a single GPU, so the command contains the value of CUDA_VISIBLE_DEVICES with which this process runs.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if subject.device_type == "cuda" else None
    words = [f"CUDA_VISIBLE_DEVICES={visible}"] if visible else []
    words += ["pytest", "--pyargs", "attnbench.conformance", "--variant", subject.variant.name]
    words += ["--plugin", plugin] if plugin else []
    words += ["--device", subject.device] if subject.device_type != "cpu" else []
    words += ["--level", level] if level != "full" else []
    words += ["--seed", str(subject.seed)] if subject.seed else []
    return shlex.join([*words, "-k", case.id])


def _outcome(subject: Subject, case: Case) -> CheckResult:
    """Run one check and return its status, reason, bug and refusal."""
    check = case.check
    result = partial(CheckResult, check.name, case.workload.id)
    if not subject.variant.exact and check.name not in CHECKS_WITHOUT_REFERENCE:
        return result("skipped", "not softmax attention (exact is False), so there is no reference")
    try:
        with _full_precision(), _memory_of_plain_variants(subject), subject.variant.calling_context():
            return result("passed", check.run(subject, case.workload))
    except Skipped as skip:
        return result("skipped", str(skip), refusal=skip.refusal)
    except Hint as hint:
        return result("hint", str(hint))
    except Failed as failure:
        lost = cuda_error(failure) is not None
        if check.trait and check.name not in subject.variant.traits and not lost:
            return result(
                "hint", f"the trait does not hold, and the variant does not claim it: {failure}", bug=failure.bug
            )
        return result("failed", str(failure), bug=failure.bug, gpu_lost=lost)


@contextlib.contextmanager
def _memory_of_plain_variants(subject: Subject) -> Iterator[None]:
    """Raise Skipped if a plain variant runs out of memory within the context, because it holds all scores."""
    try:
        yield
    except Raised as failure:
        if subject.variant.tier != "plain" or not is_out_of_memory(failure):
            raise
        raise Skipped(f"a plain variant holds all scores, and there is too little memory: {failure}") from failure


class _Nearest:
    """A search for the nearest workload that a variant supports. It caches which features are never supported."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._unsupported: set[tuple[object, ...]] = set()

    def to(self, workload: Workload) -> Workload:
        """Return the workload, or its first supported relaxation if only relaxations of it are supported."""
        w = workload
        # No relaxation changes these features. If one workload has no supported relaxation, no other workload with the
        # same features is relaxed.
        features = (str(w.mask), w.softcap is None, w.alibi, w.dropout > 0, w.scale is None)
        try:
            if self._subject.refusal(w) is None or features in self._unsupported:
                return w
            for each in _relaxations(w):
                if self._subject.refusal(each) is None:
                    return each
        except Failed:
            return w  # unsupported_reason raised an exception, which is reported when the check runs
        self._unsupported.add(features)
        return w


def _relaxations(workload: Workload) -> Iterator[Workload]:
    """Yield a workload's relaxations in each dtype: first without other changes, then with one, with two, and so on."""
    w = workload
    square = min(MAX_SQUARE, _whole_tiles(max(w.seq_q, w.seq_k), TILE))
    changes: tuple[dict[str, Any], ...] = (
        {"direction": "forward"},
        {"kv_heads": w.heads},
        {"head_dim": 64, "head_dim_v": 64},
        {"seq_q": min(8, w.seq_q)},  # some variants are made for decoding and support only a few queries
        {"seq_q": _whole_tiles(w.seq_q, TILE), "seq_k": _whole_tiles(w.seq_k, TILE)},
        {"seq_k": _whole_tiles(w.seq_k, PAGE)},
        {"seq_q": square, "seq_k": square},
    )
    easier = [each for each in changes if any(getattr(w, name) != value for name, value in each.items())]
    subsets = itertools.chain.from_iterable(itertools.combinations(easier, count) for count in range(len(easier) + 1))
    for chosen, dtype in itertools.product(subsets, dict.fromkeys((w.dtype, "float32", "bfloat16", "float16"))):
        change = {name: value for part in chosen for name, value in part.items()}
        # The changed workload may be invalid: packed documents, for example, need as many queries as keys.
        with contextlib.suppress(WorkloadError):
            yield replace(w, dtype=dtype, **change)


def _whole_tiles(length: int, tile: int) -> int:
    return -(-length // tile) * tile


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Disable TF32 while a check runs, so that float32 products have full precision."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32)
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


__all__ = ["CHECKS", "DEMANDED", "Case", "CheckResult", "cases", "checks", "find_check", "repro", "run_case"]
