"""Names of devices, as users and torch write them: `cpu`, `cpu:3`, `cuda`, `cuda:0`, or a team such as `cuda:0+cuda:1`.

The type of a device is the first part of its name. No other module takes a name apart.
"""

from __future__ import annotations

from attnbench.errors import UsageError

DEVICE_TYPES = ("cpu", "cuda")


def device_type(name: str) -> str:
    """Return the type of the device with this name: 'cpu' or 'cuda'.

    The type of a team is the type of its members. Raises UsageError if the name starts with neither type, or if it
    joins devices of different types.

    >>> device_type("cuda:0+cuda:1")
    'cuda'
    """
    types = {member.partition(":")[0] for member in name.split("+")}
    found = types.pop()
    if types or found not in DEVICE_TYPES:
        raise UsageError(f"device {name!r}: expected cpu, cuda or cuda:N, or several of one type joined by '+'")
    return found


def device_index(name: str) -> int | None:
    """Return the number of a single device, such as 1 for `cuda:1`, or None if its name contains no number."""
    number = name.partition(":")[2]
    return int(number) if number.isdecimal() else None
