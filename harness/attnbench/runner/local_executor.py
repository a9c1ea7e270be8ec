"""Where the cells of a plan run: on this machine, or on the machines of a fleet."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attnbench import store
from attnbench.errors import UsageError
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
    from attnbench.runner.limits import CellLimits


DOCTOR = "doctor"  # in a run's manifest from when it first has its devices


class Executor(Protocol):
    """What a run needs of the place where its cells run."""

    name: str

    def devices(self, names: Sequence[str]) -> list[Device]:
        """Pick devices by name, or those that are taken where none is named; raises UsageError."""

    def environment_of(self, device: Device, packages: Sequence[str]) -> dict[str, Any]:
        """Describe the environment of one of these devices, with the versions of `packages`."""

    def reserve(self, run: Path, plan: Plan) -> AbstractContextManager[None]:
        """Keep other runs off the devices, and add to the run's manifest what is known of them; raises UsageError."""

    def execute(
        self,
        run: Path,
        plan: Plan,
        started: Callable[[Cell], None],
        stored: Callable[[Record], None],
        limits: CellLimits,
    ) -> RunSummary:
        """Work a plan off into a run's folder; `stored` is called with each record after it is on disk."""


class LocalExecutor:
    """This machine: a worker for each variant and device."""

    name = "local"

    def devices(self, names: Sequence[str]) -> list[Device]:
        """Pick devices of this machine."""
        return choose_devices(list(names))

    def environment_of(self, device: Device, packages: Sequence[str]) -> dict[str, Any]:
        """Describe this machine's environment."""
        return environment_of(device, packages)

    @contextmanager
    def reserve(self, run: Path, plan: Plan) -> Iterator[None]:
        """Hold the devices' locks; a run that never got its devices leaves no folder."""
        with ExitStack() as held:
            try:
                held.enter_context(locks.hold(plan.devices))
            except UsageError:
                if DOCTOR not in store.read_manifest(run):
                    shutil.rmtree(run, ignore_errors=True)
                raise
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
        """Work on all devices side by side, then find out what else is to be said of the variants that were timed."""
        summary = Scheduler(run, plan, started, stored, limits).execute()
        if not summary.interrupted:
            describe_variants(run, plan)
        return summary


LOCAL_EXECUTOR = LocalExecutor()


def describe_machine(run: Path, plan: Plan) -> None:
    """Add to the manifest what each device does at most, and what would make timings lie."""
    manifest = store.read_manifest(run)
    manifest[DOCTOR] = [finding.to_json() for finding in examine()]
    manifest["limits"] = dict(manifest.get("limits", {}))
    for group in plan.device_groups:
        if group[0].members:
            continue  # several at once are held to no limit of one
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
    """Add to the manifest, by device and variant, which traits the variants have that were timed there."""
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
