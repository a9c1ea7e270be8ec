"""The CPU cores that each GPU's worker is pinned to: near the GPU, and different for each GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SYSTEM = Path("/sys")


def cores_near_gpus(bus_ids: Sequence[str], allowed: set[int], system: Path = SYSTEM) -> list[tuple[int, ...]]:
    """Divide the allowed cores among GPUs, so that each core goes to a GPU that it is near.

    GPUs are given by their PCI addresses, such as `00000000:3B:00.0`. All hardware threads of a core go to the same
    GPU. Returns the cores of each GPU, or an empty tuple for every GPU if one of them would have no core.
    """
    near = [_local_cores(bus_id, system) & allowed or allowed for bus_id in bus_ids]
    shares: list[list[int]] = [[] for _ in bus_ids]
    claimed: dict[tuple[int, ...], dict[int, list[int]]] = {}
    for core in sorted(allowed):
        claimants = tuple(gpu for gpu, cores in enumerate(near) if core in cores)
        claimed.setdefault(claimants, {}).setdefault(_first_sibling(core, system), []).append(core)
    for claimants, threads in claimed.items():
        for position, siblings in enumerate(threads.values()):
            if claimants:
                shares[claimants[position * len(claimants) // len(threads)]] += siblings
    return [tuple(sorted(share)) for share in shares] if all(shares) else [()] * len(bus_ids)


def _local_cores(bus_id: str, system: Path) -> set[int]:
    domain, _, rest = bus_id.lower().partition(":")
    return _read_list(system / "bus" / "pci" / "devices" / f"{domain[-4:]}:{rest}" / "local_cpulist")


def _first_sibling(core: int, system: Path) -> int:
    siblings = _read_list(system / "devices" / "system" / "cpu" / f"cpu{core}" / "topology" / "thread_siblings_list")
    return min(siblings, default=core)


def _read_list(path: Path) -> set[int]:
    """Read a set of cores in the kernel's notation, such as `0-3,8`; an unreadable file is an empty set."""
    try:
        text = path.read_text(encoding="ascii").strip()
        ends = [part.partition("-") for part in text.split(",") if part]
        return {core for low, _, high in ends for core in range(int(low), int(high or low) + 1)}
    except (OSError, ValueError):
        return set()
