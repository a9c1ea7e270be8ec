"""Which cores a GPU's worker is pinned to: near the GPU, and no two GPUs' alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SYSTEM = Path("/sys")


def cores_near_gpus(bus_ids: Sequence[str], allowed: set[int], system: Path = SYSTEM) -> list[tuple[int, ...]]:
    """Share the cores out among GPUs, given by PCI address (`00000000:3B:00.0`): each core to a GPU that it is near.

    The hardware threads of one core go to one GPU. Where a GPU would have none, no GPU is given any.
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
    """Read the kernel's notation for sets of cores: `0-3,8`."""
    try:
        text = path.read_text(encoding="ascii").strip()
        ends = [part.partition("-") for part in text.split(",") if part]
        return {core for low, _, high in ends for core in range(int(low), int(high or low) + 1)}
    except (OSError, ValueError):
        return set()
