"""The conformance suite: run the checks on a variant, each on its workloads."""

from __future__ import annotations

import contextlib
import itertools
import shlex
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.check import LEVELS, Check, CheckResult, Failed, Hint, Level, Skipped
from attnbench.conformance.checks import CHECKS, DEMANDED
from attnbench.conformance.subject import Subject
from attnbench.errors import UsageError, WorkloadError, describe, unknown

if TYPE_CHECKING:
    from attnbench.plugins.variant import Variant
    from attnbench.workloads.workload import Workload

TILE, PAGE = 128, 256  # some variants take only whole tiles of queries and keys, or whole pages of keys
LARGEST_SQUARE = 512  # some variants take only as many queries as keys
NOT_EXACT = ("empty", "fresh-output", "repeatable", "batch-invariant")  # checks of variants with exact = False


@dataclass(frozen=True)
class Case:
    """One test: a check on a workload."""

    check: Check
    workload: Workload

    @property
    def id(self) -> str:
        """The name of the test: `needle-b2-h4-...`."""
        return f"{self.check.name}-{self.workload.id}"


def find_check(name: str) -> Check:
    """Return the check of that name; raises UsageError with the nearest name if it does not exist."""
    if name not in CHECKS:
        raise UsageError(str(unknown("check", name, CHECKS)))
    return CHECKS[name]


def cases(
    variant: Variant, device: str = "cpu", level: Level = "full", only: Iterable[str] | None = None
) -> list[Case]:
    """Return the tests of a variant, without duplicates, in the order of CHECKS.

    A workload that the variant does not support is replaced by the nearest one that it supports: in another dtype, or
    with as few changes as possible of these: forward only, no grouped heads, head_dim 64, few queries, whole tiles, as
    many queries as keys. `only` names the checks to run. If each new shape is costly for the variant, the workloads are
    those of the level below. Raises UsageError for an unknown level or check.
    """
    if level not in LEVELS:
        raise UsageError(str(unknown("level", level, LEVELS)))
    chosen = CHECKS.values() if only is None else [find_check(name) for name in only]
    nearest = _Nearest(Subject(variant, device))
    costly = device in variant.costly_on
    found = (
        Case(check, nearest.to(workload))
        for check in chosen
        for workload in (_affordable(check, level) if costly else check.workloads(level))
    )
    return list({case.id: case for case in found}.values())


def _affordable(check: Check, level: Level) -> list[Workload]:
    """Return the workloads of the level below; below quick, the first one of each kind of mask."""
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

    `level` is `quick`, `full` or `thorough`; `seed` changes all random values; `only` names the checks to run, by
    default all of them. `plugin` is the file or module that offers the variant; it appears in the `repro` commands.
    """
    for case in cases(variant, device, level, only):
        yield run_case(Subject(variant, device, seed), case, level=level, plugin=plugin)


def run_case(subject: Subject, case: Case, *, level: Level = "full", plugin: str | None = None) -> CheckResult:
    """Run one test; an error in the check itself is a failure of that test alone."""
    started = time.perf_counter()
    try:
        result = _outcome(subject, case)
    except Exception as error:  # noqa: BLE001 - an error in one check must not end the others
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"the check itself broke, by {describe(error)} ({last.filename}:{last.lineno})"
        result = CheckResult(case.check.name, case.workload.id, "failed", reason)
    return replace(
        result,
        remedy=case.check.remedy if result.status == "failed" else None,
        repro=repro(subject, case, level, plugin) if result.status in ("failed", "hint") else None,
        seconds=time.perf_counter() - started,
        trait=case.check.trait,
    )


def repro(subject: Subject, case: Case, level: Level, plugin: str | None = None) -> str:
    """Return the command line that runs one test again, alone."""
    words = ["pytest", "--pyargs", "attnbench.conformance", "--variant", subject.variant.name]
    words += ["--plugin", plugin] if plugin else []
    words += ["--device", subject.device] if subject.device != "cpu" else []
    words += ["--level", level] if level != "full" else []
    words += ["--seed", str(subject.seed)] if subject.seed else []
    return shlex.join([*words, "-k", case.id])


def _outcome(subject: Subject, case: Case) -> CheckResult:
    """Run one check and return its status, reason, bug and refusal."""
    check = case.check
    result = partial(CheckResult, check.name, case.workload.id)
    if not subject.variant.exact and check.name not in NOT_EXACT:
        return result("skipped", "not softmax attention (exact is False): no answer to compare with")
    try:
        with _full_precision():
            return result("passed", check.run(subject, case.workload))
    except Skipped as skip:
        return result("skipped", str(skip), refusal=skip.refusal)
    except Hint as hint:
        return result("hint", str(hint))
    except Failed as failure:
        if check.trait and check.name not in subject.variant.traits:
            return result("hint", f"does not hold, and is not claimed: {failure}", bug=failure.bug)
        return result("failed", str(failure), bug=failure.bug)


class _Nearest:
    """Finds the nearest workload that a variant supports, and caches the features for which it supports none."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._unsupported: set[tuple[object, ...]] = set()

    def to(self, workload: Workload) -> Workload:
        """Return the workload if it is supported, else its first supported relaxation, else the workload itself."""
        w = workload
        features = (str(w.mask), w.softcap is None, w.alibi, w.dropout > 0, w.scale is None)  # never relaxed
        try:
            if self._subject.refusal(w) is None or features in self._unsupported:
                return w
            for each in _relaxations(w):
                if self._subject.refusal(each) is None:
                    return each
        except Failed:
            return w  # unsupported_reason raised: running the check reports it
        self._unsupported.add(features)
        return w


def _relaxations(workload: Workload) -> Iterator[Workload]:
    """Yield the workload in each dtype, first unchanged, then with one demand made easier, then two, and so on."""
    w = workload
    square = min(LARGEST_SQUARE, _whole_tiles(max(w.seq_q, w.seq_k), TILE))
    changes: tuple[dict[str, Any], ...] = (
        {"direction": "forward"},
        {"kv_heads": w.heads},
        {"head_dim": 64, "head_dim_v": 64},
        {"seq_q": min(8, w.seq_q)},  # for variants made for decoding
        {"seq_q": _whole_tiles(w.seq_q, TILE), "seq_k": _whole_tiles(w.seq_k, TILE)},
        {"seq_k": _whole_tiles(w.seq_k, PAGE)},
        {"seq_q": square, "seq_k": square},
    )
    easier = [each for each in changes if any(getattr(w, name) != value for name, value in each.items())]
    subsets = itertools.chain.from_iterable(itertools.combinations(easier, count) for count in range(len(easier) + 1))
    for chosen, dtype in itertools.product(subsets, dict.fromkeys((w.dtype, "float32", "bfloat16", "float16"))):
        change = {name: value for part in chosen for name, value in part.items()}
        with contextlib.suppress(WorkloadError):  # packed documents need as many queries as keys
            yield replace(w, dtype=dtype, **change)


def _whole_tiles(length: int, tile: int) -> int:
    return -(-length // tile) * tile


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Switch TF32 off while a check runs, so that float32 means float32."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32)
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


__all__ = ["CHECKS", "DEMANDED", "Case", "CheckResult", "cases", "checks", "find_check", "repro", "run_case"]
