"""A check, its decorator, and the result of running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload

Level = Literal["quick", "full", "thorough"]
Status = Literal["passed", "failed", "skipped", "hint"]
Run: TypeAlias = "Callable[[Subject, Workload], str | None]"
LEVELS: tuple[Level, ...] = ("quick", "full", "thorough")
NO_MEMORY = ("allocate memory", "out of memory", "MemoryError", "bad_alloc")  # how torch's errors say it ran out


class Failed(AttnbenchError):  # noqa: N818 - an outcome of a check, not an error of the program
    """The variant does not meet a check; the message says where, what was expected, and what came instead.

    `bug` names the usual mistake that explains the wrong answer, if one does.
    """

    def __init__(self, message: str, bug: str | None = None) -> None:
        super().__init__(message)
        self.bug = bug

    def within(self, context: str) -> Failed:
        """Return the same failure with `context`, the circumstances in which it happened, before its message."""
        return Failed(f"{context}: {self}", self.bug)


class Raised(Failed):
    """The variant itself raised an exception."""


class Skipped(AttnbenchError):  # noqa: N818 - an outcome of a check
    """A check does not apply here; the message says why.

    `refusal` is the variant's own reason, if it declares the workload unsupported.
    """

    def __init__(self, message: str, refusal: str | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal


class Hint(AttnbenchError):  # noqa: N818 - an outcome of a check
    """A finding that is worth reporting but is not a failure."""


@dataclass(frozen=True)
class Check:
    """One demand on every variant or, with `trait`, a property that a variant may promise.

    `demands`, `why`, `usual_bug` and `remedy` are shown to people. `run(subject, workload)` raises Failed, Skipped or
    Hint; it returns None, or a remark, if the variant passes. The level `full` also runs the workloads of `quick`, and
    `thorough` those of both.
    """

    name: str
    demands: str
    why: str
    usual_bug: str
    remedy: str
    run: Run
    quick: Sequence[Workload] = ()
    full: Sequence[Workload] = ()
    thorough: Sequence[Workload] = ()
    trait: bool = False

    def workloads(self, level: Level) -> list[Workload]:
        """Return the workloads of a level, which include those of the levels before it."""
        chosen = [*self.quick]
        chosen += self.full if level != "quick" else ()
        chosen += self.thorough if level == "thorough" else ()
        return list(dict.fromkeys(chosen))

    def explain(self) -> str:
        """Return the text of `attnbench check --explain`."""
        kind = "trait (reported; demanded of a variant that claims it)" if self.trait else "demanded of every variant"
        lines = (
            f"{self.name}: {kind}",
            f"demands     {self.demands}",
            f"why         {self.why}",
            f"usual bug   {self.usual_bug}",
            f"remedy      {self.remedy}",
        )
        return "\n".join(lines)


def check(name: str, *, demands: str, why: str, usual_bug: str, remedy: str, **options: Any) -> Callable[[Run], Check]:
    """Turn a function of (subject, workload) into a Check; `options` are `quick`, `full`, `thorough` and `trait`.

    ```python
    @check("empty", demands="...", why="...", usual_bug="...", remedy="...", quick=[workload(batch=0, seq=20)])
    def empty(subject: Subject, workload: Workload) -> None:
        trial = subject.trial(workload)
        trial.judge(trial.run())
    ```
    """

    def decorate(run: Run) -> Check:
        return Check(name, demands, why, usual_bug, remedy, run, **options)

    return decorate


@dataclass(frozen=True)
class CheckResult:
    """The result of one check on one workload.

    `status` is `hint` for a finding that is not a failure: a trait that does not hold and is not claimed, or a workload
    that is declared unsupported although it runs correctly. `repro` is the command line that runs this one test again.
    `bug` is the usual mistake that explains a wrong answer, and `refusal` the variant's own reason for not supporting
    the workload.
    """

    check: str
    workload_id: str
    status: Status
    reason: str | None = None
    remedy: str | None = None
    repro: str | None = None
    seconds: float = 0.0
    trait: bool = False
    bug: str | None = None
    refusal: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)
