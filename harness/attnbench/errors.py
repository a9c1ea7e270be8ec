"""The exceptions that attnbench raises on purpose.

AttnbenchError
+-- UsageError            a value that a user gave is wrong: exit code 2
|   +-- WorkloadError     a field of a workload is wrong
+-- PluginError           a plugin could not be loaded, or broke the contract
+-- RecordError           a record does not match the schema
+-- StorageError          the files of a run can't be written, e.g. because the disk is full
+-- MeasurementError      a measurement is not valid, or not possible on this machine
+-- HarnessMemoryError    the harness itself, and not the variant, ran out of memory
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# A message that contains one of these texts reports a CUDA error, after which the process can't rely on its GPU.
CUDA_ERROR_TEXTS = ("CUDA error", "CUDA driver error", "device-side assert")
# An error whose type or message contains one of these texts, in any case, was caused by a lack of memory.
OUT_OF_MEMORY_TEXTS = ("out of memory", "allocate memory", "not enough memory", "memoryerror", "bad_alloc")


class AttnbenchError(Exception):
    """Base of all errors that attnbench raises on purpose. Their messages are written for users."""


class UsageError(AttnbenchError):
    """A value that a user gave is wrong. The message names the value, what was expected, and the remedy."""


class WorkloadError(UsageError):
    """A field of a workload is out of range or contradicts another field.

    `field` is the name of the field, or None if the error does not concern a single field.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class PluginError(AttnbenchError):
    """A plugin could not be loaded or broke the plugin contract. `remedy` says how the plugin's author can fix it."""

    def __init__(self, reason: str, remedy: str = "fix the problem that the reason names") -> None:
        super().__init__(reason)
        self.remedy = remedy


class RecordError(AttnbenchError):
    """A record does not match the schema."""


class StorageError(AttnbenchError):
    """The files of a run can't be written. Records that were stored earlier are intact."""


class MeasurementError(AttnbenchError):
    """A measurement is not valid, or not possible on this machine. The message says why."""


class HarnessMemoryError(AttnbenchError):
    """The harness itself ran out of memory, while it prepared or checked a variant's call."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that the machine or the device has too little memory."""
    found = describe(error).lower()
    return isinstance(error, MemoryError) or any(text in found for text in OUT_OF_MEMORY_TEXTS)


@contextmanager
def harness_work(step: str) -> Iterator[None]:
    """Mark the context as work of the harness, `step`, which allocates memory that no variant asked for.

    Raises HarnessMemoryError if the context runs out of memory.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise HarnessMemoryError(
            f"the harness ran out of memory while {step}, not the variant: this workload leaves too little memory to "
            f"check answers ({describe(error)})"
        ) from error


def unknown(kind: str, name: str, choices: Iterable[str]) -> UsageError:
    """Return a UsageError that suggests the choice nearest to an unknown name, or all choices if none is close."""
    known = sorted(set(choices))
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if nearest:
        return UsageError(f"unknown {kind} {name!r}: did you mean {nearest[0]!r}?")
    return UsageError(f"unknown {kind} {name!r}: expected one of {', '.join(known) or '(there are none)'}")


def describe(error: BaseException) -> str:
    """Return 'Type: message' for an exception, on one line, even if its `__str__` raises another exception."""
    try:
        text = " ".join(str(error).split())
    except Exception as broken:  # noqa: BLE001 - a plugin's __str__ may raise anything
        text = f"(no message: its __str__ raised {type(broken).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
