"""What a check is and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload

Level = Literal["quick", "full", "thorough"]
Status = Literal["passed", "failed", "skipped", "hint"]
LEVELS: tuple[Level, ...] = ("quick", "full", "thorough")
NO_MEMORY = ("allocate memory", "out of memory", "MemoryError", "bad_alloc")  # words of what torch raises without


LIKELY_BUG = "likely bug: "  # begins the last clause of a reason


class Failed(AttnbenchError):  # noqa: N818 - an outcome of a check, not an error of ours
    """A variant does not meet a check; the text says where, what came, and what was expected."""


class Raised(Failed):
    """The variant raised an error of its own."""


class Skipped(AttnbenchError):  # noqa: N818 - an outcome of a check
    """A check does not apply here; the text says why."""


class Hint(AttnbenchError):  # noqa: N818 - an outcome of a check
    """Something worth knowing that is no failure."""


@dataclass(frozen=True)
class Check:
    """One demand on every variant, or with `trait` one property that a variant may promise.

    `demands`, `why`, `usual_bug` and `remedy` are for people. `run(subject, workload)` raises Failed, Skipped or
    Hint, and returns None, or a remark, where all is well. `quick` and `full` are workloads in wire form, as a suite's
    grid would list them; `full` is run beside `quick` unless only a quick look is asked for.
    """

    name: str
    demands: str
    why: str
    usual_bug: str
    remedy: str
    run: Callable[[Subject, Workload], str | None]
    quick: Sequence[Workload] = ()
    full: Sequence[Workload] = ()
    thorough: Sequence[Workload] = ()
    trait: bool = False

    def workloads(self, level: Level) -> list[Workload]:
        """Give the workloads that the check is run on at a level; each level includes those before it."""
        chosen = [*self.quick]
        chosen += self.full if level != "quick" else ()
        chosen += self.thorough if level == "thorough" else ()
        return list(dict.fromkeys(chosen))

    def explain(self) -> str:
        """Give everything that the check has to say of itself, for `--explain`."""
        kind = "trait (reported; demanded of a variant that claims it)" if self.trait else "demanded of every variant"
        lines = (
            f"{self.name}: {kind}",
            f"demands     {self.demands}",
            f"why         {self.why}",
            f"usual bug   {self.usual_bug}",
            f"remedy      {self.remedy}",
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class CheckResult:
    """What came of one check on one workload.

    `status` is `hint` where something is worth knowing but wrong only by the variant's own promise: a trait that it
    does not have, or a refusal that is too shy. `repro` is a command line that runs this very check again, `bug` which
    usual mistake explains the wrong answer.
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

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return asdict(self)
