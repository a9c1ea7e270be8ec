"""About how long a run will take, said before it starts."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnbench.plan.cells import Plan
    from attnbench.plan.devices import Device

START_S = 2.0  # a worker's import of torch and of its plugin, two of them at a time
CELL_S = 1.0  # warm-up, conformance, memory and kernels of a small workload


def seconds_of(plan: Plan, unsupported: Container[str]) -> float:
    """Estimate the seconds that a plan takes; devices work side by side. `unsupported` holds cell_ids.

    Each cell is taken to use all of its sampling; those that are precise sooner make up for warm-ups. The A/A control
    is one more cell for each workload.
    """
    return max((_pool_seconds(plan, unsupported, pool) for pool in plan.pools), default=0.0)


def _pool_seconds(plan: Plan, unsupported: Container[str], pool: list[Device]) -> float:
    cells = [cell for cell in plan.cells if cell.device == pool[0] and cell.cell_id not in unsupported]
    if not cells:
        return 0.0
    protocol = plan.protocols[cells[0].device.kind]
    controls = len({cell.workload for cell in cells}) if protocol.interleave else 0
    workers = len({cell.variant.name for cell in cells}) + min(1, controls)
    return workers * START_S + (len(cells) + controls) * (protocol.budget_s + CELL_S) / len(pool)
