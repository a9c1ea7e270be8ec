"""The `Check` class, the decorator that creates checks, and the result of running a check."""

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


class Failed(AttnbenchError):  # noqa: N818 - an outcome of a check, not an error of the program
    """Raised if a variant fails a check. The message says what was expected, what was found instead, and where.

    `bug` names the common mistake that explains the wrong answer, or is None if no such mistake was found.
    """

    def __init__(self, message: str, bug: str | None = None) -> None:
        super().__init__(message)
        self.bug = bug

    def within(self, context: str) -> Failed:
        """Return a copy of this failure whose message starts with `context`, as in `call 3 of 120: ...`."""
        return Failed(f"{context}: {self}", self.bug)


class Raised(Failed):
    """Raised if the variant itself raises an exception."""


class Skipped(AttnbenchError):  # noqa: N818 - an outcome of a check
    """Raised if a check does not apply; the message says why.

    If the variant declares the workload unsupported, `refusal` is the variant's reason; otherwise it is None.
    """

    def __init__(self, message: str, refusal: str | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal


class Hint(AttnbenchError):  # noqa: N818 - an outcome of a check
    """Raised for a finding that is worth reporting but is not a failure."""


@dataclass(frozen=True)
class Check:
    """A property that every variant must have or, if `trait` is True, that a variant may claim to have.

    `demands`, `why`, `usual_bug` and `remedy` are shown to users. If the variant passes, `run(subject, workload)`
    returns None or a remark; otherwise `run` raises Failed, Skipped or Hint. The level `full` also runs the workloads
    of `quick`, and `thorough` runs the workloads of all three levels.
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
        """Return the workloads of a level, including those of all lower levels, without duplicates."""
        chosen = [*self.quick]
        chosen += self.full if level != "quick" else ()
        chosen += self.thorough if level == "thorough" else ()
        return list(dict.fromkeys(chosen))

    def explain(self) -> str:
        """Return the explanation that `attnbench check --explain` prints."""
        kind = (
            "trait (reported for every variant, demanded only of those that claim it)"
            if self.trait
            else "demanded of every variant"
        )
        lines = (
            f"{self.name}: {kind}",
            f"demands     {self.demands}",
            f"why         {self.why}",
            f"usual bug   {self.usual_bug}",
            f"remedy      {self.remedy}",
        )
        return "\n".join(lines)


def check(name: str, *, demands: str, why: str, usual_bug: str, remedy: str, **options: Any) -> Callable[[Run], Check]:
    """Return a decorator that turns a function of (subject, workload) into a Check.

    `options` may set the fields `quick`, `full`, `thorough` and `trait`.

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
    that the variant declares unsupported but computes correctly. `repro` is the command line that runs only this test
    again. `bug` is the common mistake that explains a wrong answer. `refusal` is the variant's own reason for not
    supporting the workload. `gpu_lost` is True if a CUDA error occurred, so that no further test should run in the
    process.
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
    gpu_lost: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict of JSON values."""
        return asdict(self)
