"""The interface of executors, and the executor that runs plans on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attnbench import store
from attnbench.machine.doctor import examine
from attnbench.plan.device_peaks import measured_peaks
from attnbench.plan.devices import Device, choose_devices
from attnbench.plan.environment import environment_of
from attnbench.plan.variant_traits import tested_traits
from attnbench.runner import locks
from attnbench.runner.scheduler import RunSummary, Scheduler

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from attnbench.plan.cells import Cell, Plan
    from attnbench.record import Record
    from attnbench.runner.cell_limits import CellLimits


class Executor(Protocol):
    """The interface of an executor, which finds devices, describes their environments, and executes plans."""

    name: str

    def devices(self, names: Sequence[str]) -> list[Device]:
        """Return the devices with the given names, or the default devices if no name is given.

        Raises UsageError if a name is unknown or its device is not available.
        """

    def environment_of(self, device: Device, packages: Sequence[str]) -> dict[str, Any]:
        """Return the environment of a device, including the versions of `packages`."""

    def reserve(self, run: Path, plan: Plan) -> AbstractContextManager[None]:
        """Return a context manager that reserves the plan's devices.

        Entering the context also adds a description of the devices to the run's manifest. Raises UsageError if a device
        is in use.
        """

    def execute(
        self,
        run: Path,
        plan: Plan,
        started: Callable[[Cell], None],
        stored: Callable[[Record], None],
        limits: CellLimits,
    ) -> RunSummary:
        """Run all cells of a plan and return a summary.

        `started` is called with each cell before the cell is measured. `stored` is called with each record once the
        record is on disk.
        """


class LocalExecutor:
    """The executor for this machine. It starts a worker for each variant on each device."""

    name = "local"

    def devices(self, names: Sequence[str]) -> list[Device]:
        """Return this machine's devices with the given names, or its default devices if no name is given."""
        return choose_devices(list(names))

    def environment_of(self, device: Device, packages: Sequence[str]) -> dict[str, Any]:
        """Return the environment of one of this machine's devices, including the versions of `packages`."""
        return environment_of(device, packages)

    @contextmanager
    def reserve(self, run: Path, plan: Plan) -> Iterator[None]:
        """Hold the locks of the plan's devices while the context is active.

        Entering the context also adds a description of the machine to the run's manifest. Raises UsageError if another
        run holds one of the locks.
        """
        with locks.hold(plan.devices):
            describe_machine(run, plan)
            yield

    def execute(
        self,
        run: Path,
        plan: Plan,
        started: Callable[[Cell], None],
        stored: Callable[[Record], None],
        limits: CellLimits,
    ) -> RunSummary:
        """Run the cells on all devices in parallel.

        Afterwards, the traits of the timed variants are tested, unless the run was interrupted.
        """
        summary = Scheduler(run, plan, started, stored, limits).execute()
        if not summary.interrupted:
            describe_variants(run, plan)
        return summary


LOCAL_EXECUTOR = LocalExecutor()


def describe_machine(run: Path, plan: Plan) -> None:
    """Add the peak rates of each device and the findings of `attnbench doctor` to the run's manifest."""
    manifest = store.read_manifest(run)
    manifest[store.DOCTOR] = [finding.to_json() for finding in examine()]
    manifest["limits"] = dict(manifest.get("limits", {}))
    for group in plan.device_groups:
        if group[0].members:
            continue  # peak rates are measured for the members of a team, but not for the team itself
        cells = [cell for cell in (*plan.cells, *plan.frontier) if cell.device == group[0]]
        environment_id = str(plan.environments[group[0].name]["environment_id"])
        measured = measured_peaks(group[0], {cell.workload.dtype for cell in cells}, environment_id)
        for device in group:
            manifest["limits"][device.name] = measured["limits"]
            manifest["environments"][device.name] = {
                **plan.environments[device.name],
                "torch_facts": measured["facts"],
            }
    store.write_manifest(run, manifest)


def describe_variants(run: Path, plan: Plan) -> None:
    """Test the traits of the timed variants, and add the results to the run's manifest, by device and variant."""
    timed = {(record.device, record.variant) for record in store.latest(run).values() if record.status == "ok"}
    manifest = store.read_manifest(run)
    manifest["traits"] = {
        group[0].name: tested_traits(
            group[0],
            dict.fromkeys(
                cell.variant
                for cell in plan.cells
                if any((device.name, cell.variant.name) in timed for device in group)
            ),
            str(plan.environments[group[0].name]["environment_id"]),
        )
        for group in plan.device_groups
        if not group[0].members
    }
    store.write_manifest(run, manifest)
