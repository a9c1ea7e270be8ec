"""Orders out, records in: works a plan off on a cluster, and survives the machines that it loses."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench import store
from attnbench.cluster import task
from attnbench.errors import RecordError, describe
from attnbench.record import Record
from attnbench.runner.interrupts import Interrupts
from attnbench.runner.open_cell import Progress, now
from attnbench.runner.open_cell import Site as Place
from attnbench.runner.scheduler import Summary

if TYPE_CHECKING:
    from attnbench.cluster.executor import Cluster, Site
    from attnbench.plan.cells import Cell, Plan
    from attnbench.runner.limits import Terms

MOST_LOSSES = 3  # of machines with the same group, before the group is to blame
PATIENCE_S = 120.0  # without any machine of a type, before its cells are given up
TICK_S = 1.0


@dataclass
class Errand:
    """One group on its way: its cells, and how many machines were lost with it."""

    cells: list[Cell]
    losses: int = 0
    started_at: str = field(default_factory=now)


class Dispatch:
    """One execution of a plan on a cluster. As many groups are out as the fleet has devices of their type."""

    def __init__(
        self,
        cluster: Cluster,
        run: Path,
        plan: Plan,
        parcel: Sequence[Mapping[str, Any]],
        *,
        started: Callable[[Cell], None],
        stored: Callable[[Record], None],
        terms: Terms,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._cluster, self._run, self._plan, self._parcel = cluster, run, plan, list(parcel)
        self._started, self._stored = started, stored
        self._terms, self._patience_s = terms, patience_s
        self._waiting = {device.name: deque(map(Errand, plan.workload_groups(device))) for device in plan.devices}
        self._out: dict[Any, tuple[Errand, str]] = {}
        self._writers: dict[str, store.RecordWriter] = {}
        self._last_seen = dict.fromkeys(self._waiting, time.monotonic())
        self._limits_known: set[str] = set()
        self._interrupts = Interrupts(most=1)
        self._useful_s = 0.0
        self._most_out = 1
        self.summary = Summary()

    def execute(self) -> Summary:
        """Work all groups off; SIGINT once waits for those that are out, twice stops at once."""
        began = time.monotonic()
        with self._interrupts.counted():
            try:
                while self._out or any(self._waiting.values()):
                    self._send()
                    for handle in self._cluster.finished(list(self._out), TICK_S) if self._out else ():
                        self._take(handle, *self._out.pop(handle))
            finally:
                for handle in self._out:
                    self._cluster.cancel(handle)
                for writer in self._writers.values():
                    writer.close()
        self.summary.wall_s = time.monotonic() - began
        self.summary.useful_share = self._useful_s / (self.summary.wall_s * self._most_out)
        self.summary.interrupted = self._interrupts.count > 0
        return self.summary

    def _send(self) -> None:
        """Fill the fleet; what has had no machine for too long is given up."""
        if self._interrupts.count:
            self._waiting = {name: deque() for name in self._waiting}
        sites = {site.name: site for site in self._cluster.sites()}
        for name, waiting in self._waiting.items():
            site = sites.get(name)
            if site is None or not site.slots:
                self._be_patient(name)
                continue
            self._last_seen[name] = time.monotonic()
            while waiting and self._count_out(name) < site.slots:
                self._submit(waiting.popleft(), site)
        self._most_out = max(self._most_out, len(self._out))
        if not self._out and any(self._waiting.values()):
            time.sleep(min(TICK_S, self._patience_s))

    def _be_patient(self, name: str) -> None:
        if time.monotonic() - self._last_seen[name] < self._patience_s:
            return
        for handle in [handle for handle, (_, device) in self._out.items() if device == name]:
            self._cluster.cancel(handle)
            self._waiting[name].append(self._out.pop(handle)[0])
        while self._waiting[name]:
            self._give_up(
                self._waiting[name].popleft(), "interrupted", f"no machine with {name} is left; go on with --resume"
            )

    def _submit(self, sent: Errand, site: Site) -> None:
        first = sent.cells[0]
        dtypes = {cell.workload.dtype for cell in self._plan.cells if cell.device == first.device}
        wanted = site.name not in self._limits_known
        self._limits_known.add(site.name)
        for cell in sent.cells:
            self._started(cell)
        sent.started_at = now()
        order = {
            "run": self._run.name,
            "plugins": self._parcel,
            "variants": {cell.variant.name: cell.variant.sha256 for cell in sent.cells},
            "baselines": [cell.variant.name for cell in sent.cells if cell.variant.baseline],
            "workload": first.workload.to_json(),
            "device": site.name,
            "kind": site.kind,
            "protocol": self._plan.protocols[site.kind].to_json(),
            "terms": self._terms.to_json(),
            "limits": sorted(dtypes) if wanted else [],
        }
        self._out[self._cluster.submit(task.perform, order, site)] = (sent, site.name)

    def _take(self, handle: Any, sent: Errand, device: str) -> None:
        """Store what came back; a group whose machine was lost waits for another one."""
        from attnbench.cluster.executor import NodeLostError

        try:
            answer = self._cluster.outcome(handle)
        except NodeLostError as lost:
            self._limits_known.discard(device)
            sent.losses += 1
            if sent.losses < MOST_LOSSES:
                self._waiting[device].appendleft(sent)
            else:
                self._give_up(sent, "crash", f"{sent.losses} machines were lost with this group: {lost}")
            return
        except Exception as error:  # noqa: BLE001 - whatever a task raises is its cells' result
            self._give_up(sent, "error", describe(error))
            return
        if "refused" in answer:
            self._give_up(sent, "error", str(answer["refused"]))
            return
        self._keep(answer, sent, device)

    def _keep(self, answer: Mapping[str, Any], sent: Errand, device: str) -> None:
        self._useful_s += float(answer["useful_s"])
        self._describe(answer, device)
        for path, text in answer["logs"].items():
            (self._run / "logs" / Path(path).name).write_text(text, encoding="utf-8")
        told = set()
        for fields in answer["records"]:
            try:
                record = Record.from_json(fields)
            except RecordError as error:
                self._give_up(sent, "error", f"machine {answer['host']} handed back a wrong record: {error}")
                return
            told.add(record.variant)
            self._store(device, record)
        lacking = [cell for cell in sent.cells if cell.variant.name not in told]
        if lacking:
            self._give_up(Errand(lacking, 0, sent.started_at), "error", f"machine {answer['host']} sent no record")

    def _describe(self, answer: Mapping[str, Any], device: str) -> None:
        """Add to the manifest what the machine is, and what its device does at most."""
        manifest = store.read_manifest(self._run)
        environment = dict(answer["environment"])
        fleet = manifest.setdefault("fleet", {"executor": self._cluster.name, "machines": {}})
        machine = fleet["machines"].setdefault(answer["host"], {"devices": [], "environments": {}, "doctor": []})
        machine["devices"] = sorted({*machine["devices"], answer["device"]})
        machine["environments"].setdefault(environment["environment_id"], environment)
        machine["doctor"] = answer["doctor"] or machine["doctor"]
        if answer["limits"]:
            manifest.setdefault("limits", {})[device] = answer["limits"]
            manifest["environments"][device] = environment
        store.write_manifest(self._run, manifest)

    def _give_up(self, sent: Errand, status: str, reason: str) -> None:
        for cell in sent.cells:
            protocol = self._plan.protocols[cell.device.kind]
            environment = str(self._plan.environments[cell.device.name]["environment_id"])
            place = Place(self._run, protocol, environment, self._terms)
            lost = Progress(cell, sent.started_at)
            self._store(cell.device.name, lost.record(place, status, "start", None, control=False, reason=reason))

    def _store(self, device: str, record: Record) -> None:
        if device not in self._writers:
            self._writers[device] = store.RecordWriter(self._run, device.replace(":", "-"))
        self._writers[device].append(record)
        if not record.control:
            self.summary.statuses[record.status] += 1
        self._stored(record)

    def _count_out(self, name: str) -> int:
        return sum(device == name for _, device in self._out.values())
