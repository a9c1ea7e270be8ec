"""Run the cells of a plan on a cluster.

Groups of cells are sent to the nodes as tasks, and the records that the tasks return are stored on this machine.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from attnbench import store
from attnbench.cluster import node_task
from attnbench.cluster.backend import Cluster, ClusterLostError, DeviceType, NodeLostError
from attnbench.cluster.node_task import GroupOrder, GroupResult, NodeDescription, NodeRequest
from attnbench.errors import RecordError, UsageError, describe, unknown
from attnbench.interrupts import Interrupts
from attnbench.machine.utc_clock import utc_now
from attnbench.record import Record
from attnbench.runner.cell_progress import CellContext, CellProgress
from attnbench.runner.run import resume_command
from attnbench.runner.scheduler import RunSummary

if TYPE_CHECKING:
    from attnbench.plan.cells import Cell, Plan
    from attnbench.plan.devices import Device
    from attnbench.runner.cell_limits import CellLimits

MAX_LOST_NODES = 3  # if this many nodes are lost while running a group, the group's cells are recorded as crashes
MISSING_NODES_S = 120.0  # if a device type has no nodes for this long, its cells are recorded as interrupted
POLL_S = 1.0


class ClusterExecutor:
    """The executor for a cluster. It sends each group of cells to a node with the right type of device.

    - `labels`: the types of devices to use (`--gpus`)
    - `plugins`: the plugins named on the command line
    """

    def __init__(self, cluster: Cluster, labels: Sequence[str] = (), plugins: Sequence[str] = ()) -> None:
        self.name = cluster.name
        self._cluster, self._labels = cluster, list(labels)
        self._plugins = node_task.pack_plugins(plugins)
        self._described: dict[str, NodeDescription] = {}  # key: device type; value: the description of one node

    def devices(self, names: Sequence[str]) -> list[Device]:
        """Return one Device for each type of device to use, with the properties of a device found on one of the nodes.

        `names` selects types of devices by name (`cuda:H100`) or by kind (`cpu`). If `names` is empty, the types given
        with `--gpus` are used. Without `--gpus`, all types of GPU are used, or all types of CPU if there is no GPU.
        Raises UsageError if a type is not available in the cluster.
        """
        chosen = self._choose({found.name: found for found in self._cluster.device_types()}, names)
        request = msgspec.to_builtins(NodeRequest(self._plugins))
        asked = {
            self._cluster.submit(node_task.describe_node, request, device_type): device_type.name
            for device_type in chosen
            if device_type.name not in self._described
        }
        waiting = set(asked)
        while waiting:
            for handle in self._cluster.finished(waiting, POLL_S):
                self._described[asked[handle]] = msgspec.convert(self._cluster.result(handle), NodeDescription)
                waiting.discard(handle)
        return [self._device(device_type) for device_type in chosen]

    def environment_of(self, device: Device, packages: Sequence[str]) -> dict[str, Any]:  # noqa: ARG002 - each node uses its own list of packages
        """Return the environment of the node whose description is used for this type of device.

        Each record refers not to this environment but to that of the node on which its cell was measured.
        """
        return self._described[device.name].environments[device.kind]

    @contextmanager
    def reserve(self, run: Path, plan: Plan) -> Iterator[None]:  # noqa: ARG002 - the cluster's scheduler reserves devices
        """Disconnect from the cluster when the context exits.

        Nothing needs to be reserved, because the cluster's scheduler assigns each device to only one task at a time,
        and each node locks its devices.
        """
        try:
            yield
        finally:
            self._cluster.stop()

    def execute(
        self,
        run: Path,
        plan: Plan,
        started: Callable[[Cell], None],
        stored: Callable[[Record], None],
        limits: CellLimits,
    ) -> RunSummary:
        """Run all cells of a plan, store their records, and return a summary.

        Raises ClusterLostError if the cluster can't be reached any more. The records stored until then are intact.
        """
        queue = GroupQueue(self._cluster, run, plan, self._plugins, started=started, stored=stored, limits=limits)
        return queue.execute()

    def _choose(self, known: Mapping[str, DeviceType], names: Sequence[str]) -> list[DeviceType]:
        by_label = {device_type.label: device_type for device_type in known.values()}
        chosen: dict[str, DeviceType] = {}
        for label in () if names else self._labels:
            if label not in by_label:
                raise unknown("type of device", label, by_label)
            chosen[by_label[label].name] = by_label[label]
        for name in names:
            matching = [device_type for device_type in known.values() if name in (device_type.name, device_type.kind)]
            if not matching:
                raise unknown("device of the cluster", name, [*known, *(found.kind for found in known.values())])
            chosen.update((device_type.name, device_type) for device_type in matching)
        gpus = [device_type for device_type in known.values() if device_type.kind == "cuda"]
        found = list(chosen.values()) or gpus or list(known.values())
        if not found:
            raise UsageError(f"the {self.name} cluster has no device: no GPU, and no CPU that tasks may use")
        return found

    def _device(self, device_type: DeviceType) -> Device:
        node = self._described[device_type.name]
        first = next((device for device in node.devices if device.kind == device_type.kind), None)
        if first is None:
            raise UsageError(
                f"the cluster reports a device of type {device_type.label} on machine {node.host}, but no "
                f"{device_type.kind} device was found there: check the machine's driver"
            )
        return replace(first, name=device_type.name, near_cores=(), uuid=f"{self.name}/{device_type.name}")


@dataclass
class QueuedGroup:
    """A group of cells of one workload. The whole group is sent to a node as one task.

    `lost_nodes` is the number of nodes that were lost while they ran this group.
    """

    cells: list[Cell]
    lost_nodes: int = 0
    started_at: str = field(default_factory=utc_now)

    @property
    def device(self) -> str:
        """The name of the device type that the group needs."""
        return self.cells[0].device.name


class GroupQueue:
    """A queue of a plan's groups of cells.

    For each type of device, the number of groups that run at the same time is at most the number of such devices. When
    a node is lost, the group that it was running is queued again. A node that can't measure these variants gets no
    further groups, and its group is queued again for another node. If the cluster has no device of a type for
    `missing_nodes_s` seconds, the cells for that type are recorded as interrupted, or as errors if nodes of the type
    were refused.
    """

    def __init__(
        self,
        cluster: Cluster,
        run: Path,
        plan: Plan,
        plugins: list[dict[str, Any]],
        *,
        started: Callable[[Cell], None],
        stored: Callable[[Record], None],
        limits: CellLimits,
        missing_nodes_s: float = MISSING_NODES_S,
    ) -> None:
        self._cluster, self._run, self._plan, self._plugins = cluster, run, plan, plugins
        self._started, self._stored = started, stored
        self._limits, self._missing_nodes_s = limits, missing_nodes_s
        self._waiting = {device.name: deque(map(QueuedGroup, plan.workload_groups(device))) for device in plan.devices}
        self._running: dict[Any, QueuedGroup] = {}  # key: task handle; value: the group that the task measures
        self._writers: dict[str, store.RecordWriter] = {}
        self._last_seen = dict.fromkeys(self._waiting, time.monotonic())
        self._dtypes: dict[str, set[str]] = {}  # key: device type; value: the dtypes of its cells
        for cell in plan.cells:
            self._dtypes.setdefault(cell.device.name, set()).add(cell.workload.dtype)
        self._peaks_requested: set[str] = set()
        self._noted_nodes: set[tuple[str, str, str]] = set()  # those that the manifest already describes
        self._served: set[str] = set()  # the device types of which a node has measured a group
        self._refusals: dict[str, str] = {}  # key: device type; value: why a node of this type gets no further groups
        self._interrupts = Interrupts(limit=1)
        self._useful_s = 0.0
        self._most_running = 1
        self.summary = RunSummary()

    def execute(self) -> RunSummary:
        """Run all groups and return a summary.

        After the first signal that asks the process to end, no further groups are started, and this method waits for
        the running groups. The second signal cancels the running groups and raises EndedBySignal.
        """
        began = time.monotonic()
        with self._interrupts.counted():
            try:
                while self._running or any(self._waiting.values()):
                    self._submit_waiting()
                    for handle in self._cluster.finished(list(self._running), POLL_S) if self._running else ():
                        self._collect(handle, self._running.pop(handle))
            except ClusterLostError as lost:
                raise ClusterLostError(
                    f"{lost}; the records stored so far are intact: start the cluster again, then continue with: "
                    f"{resume_command(self._run)} and the same --executor, --address and --gpus"
                ) from None
            finally:
                for handle in self._running:
                    self._cluster.cancel(handle)
                for writer in self._writers.values():
                    writer.close()
        self.summary.wall_s = time.monotonic() - began
        self.summary.useful_share = self._useful_s / (self.summary.wall_s * self._most_running)
        self.summary.interrupted, self.summary.signal = self._interrupts.count > 0, self._interrupts.first
        return self.summary

    def _submit_waiting(self) -> None:
        """Submit waiting groups for all idle devices.

        Gives up on groups whose device type has been unavailable for `missing_nodes_s` seconds.
        """
        if self._interrupts.count:
            self._waiting = {name: deque() for name in self._waiting}
        available = {device_type.name: device_type for device_type in self._cluster.device_types()}
        for name, waiting in self._waiting.items():
            device_type = available.get(name)
            if device_type is None or not device_type.slots:
                # A type of which every node was refused will not be available later.
                patience_s = self._missing_nodes_s if name in self._served or name not in self._refusals else 0.0
                if time.monotonic() - self._last_seen[name] >= patience_s:
                    self._give_up_type(name)
                continue
            self._last_seen[name] = time.monotonic()
            while waiting and self._count_running(name) < device_type.slots:
                self._submit(waiting.popleft(), device_type)
        self._most_running = max(self._most_running, len(self._running))
        if not self._running and any(self._waiting.values()):
            time.sleep(min(POLL_S, self._missing_nodes_s))

    def _count_running(self, name: str) -> int:
        return sum(group.device == name for group in self._running.values())

    def _give_up_type(self, name: str) -> None:
        for handle in [handle for handle, group in self._running.items() if group.device == name]:
            self._cluster.cancel(handle)
            self._waiting[name].append(self._running.pop(handle))
        status, reason = "interrupted", f"no machine with {name} is left; continue with --resume {self._run.name}"
        if name in self._refusals:
            status, reason = "error", f"no other machine with {name} is left: {self._refusals[name]}"
        while self._waiting[name]:
            self._give_up(self._waiting[name].popleft(), status, reason)

    def _submit(self, group: QueuedGroup, device_type: DeviceType) -> None:
        first = group.cells[0]
        needs_peaks = device_type.name not in self._peaks_requested
        self._peaks_requested.add(device_type.name)
        for cell in group.cells:
            self._started(cell)
        group.started_at = utc_now()
        order = GroupOrder(
            run=self._run.name,
            plugins=self._plugins,
            variants={cell.variant.name: cell.variant.sha256 for cell in group.cells},
            baselines=[cell.variant.name for cell in group.cells if cell.variant.baseline],
            workload=first.workload.to_json(),
            device=device_type.name,
            kind=device_type.kind,
            protocol=self._plan.protocols[device_type.kind].to_json(),
            cell_limits=self._limits.to_json(),
            peak_dtypes=sorted(self._dtypes[device_type.name]) if needs_peaks else [],
        )
        self._running[self._cluster.submit(node_task.measure_group, msgspec.to_builtins(order), device_type)] = group

    def _collect(self, handle: Any, group: QueuedGroup) -> None:
        """Store the result of a finished task, or queue its group again if the node was lost.

        If too many nodes were lost, or if the task failed, the cells of the group are recorded as failed.
        """
        try:
            result = msgspec.convert(self._cluster.result(handle), GroupResult)
        except NodeLostError as lost:
            self._peaks_requested.discard(group.device)
            group.lost_nodes += 1
            if group.lost_nodes < MAX_LOST_NODES:
                self._waiting[group.device].appendleft(group)
            else:
                self._give_up(group, "crash", f"{group.lost_nodes} machines were lost while running this group: {lost}")
            return
        except ClusterLostError:
            raise
        except Exception as error:  # noqa: BLE001 - a task may raise any exception, which is recorded for its cells
            self._give_up(group, "error", describe(error))
            return
        if result.unfit:
            self._exclude(result, group)
        elif result.refused is not None:
            self._give_up(group, "error", result.refused)
        else:
            self._store_result(result, group)

    def _exclude(self, result: GroupResult, group: QueuedGroup) -> None:
        """Use a node that refused a group no more, and queue the group again for another node."""
        self._cluster.exclude(result.node)
        self._peaks_requested.discard(group.device)
        if result.refused not in self.summary.refusals:
            self.summary.refusals.append(str(result.refused))
        self._refusals[group.device] = str(result.refused)
        self._waiting[group.device].appendleft(group)

    def _store_result(self, result: GroupResult, group: QueuedGroup) -> None:
        self._useful_s += result.useful_s
        self._served.add(group.device)
        self._describe_node(result, group.device)
        for path, text in result.logs.items():
            (self._run / "logs" / Path(path).name).write_text(text, encoding="utf-8")
        returned = set()
        for fields in result.records:
            try:
                record = Record.from_json(fields)
            except RecordError as error:
                self._give_up(group, "error", f"machine {result.host} returned an invalid record: {error}")
                return
            returned.add(record.variant)
            self._store(group.device, record)
        missing = [cell for cell in group.cells if cell.variant.name not in returned]
        if missing:
            self._give_up(
                QueuedGroup(missing, 0, group.started_at), "error", f"machine {result.host} returned no record"
            )

    def _describe_node(self, result: GroupResult, device: str) -> None:
        """Add the node, its environment and the peak rates of its device to the manifest, if they are new.

        The manifest contains the plan, so writing it for each group would take longer the more cells a plan has.
        """
        environment = result.environment
        node_id = (result.host, result.device, environment["environment_id"])
        if node_id in self._noted_nodes and not result.peaks:
            return
        self._noted_nodes.add(node_id)
        manifest = store.read_manifest(self._run)
        cluster = manifest.setdefault("fleet", {"executor": self._cluster.name, "machines": {}})
        node = cluster["machines"].setdefault(result.host, {"devices": [], "environments": {}, "doctor": []})
        node["devices"] = sorted({*node["devices"], result.device})
        node["environments"].setdefault(environment["environment_id"], environment)
        node["doctor"] = result.doctor or node["doctor"]
        if result.peaks:
            manifest.setdefault("limits", {})[device] = result.peaks
            manifest["environments"][device] = environment
        store.write_manifest(self._run, manifest)

    def _give_up(self, group: QueuedGroup, status: str, reason: str) -> None:
        """For each cell of a group, store a record with this status and reason but without measurements."""
        for cell in group.cells:
            protocol = self._plan.protocols[cell.device.kind]
            environment = str(self._plan.environments[cell.device.name]["environment_id"])
            context = CellContext(self._run, protocol, environment, self._limits)
            progress = CellProgress(cell, group.started_at)
            record = progress.record(context, status, "start", None, reason=reason)
            self._store(cell.device.name, record)

    def _store(self, device: str, record: Record) -> None:
        if device not in self._writers:
            self._writers[device] = store.RecordWriter(self._run, device.replace(":", "-"))
        self._writers[device].append(record)
        if not record.control:
            self.summary.statuses[record.status] += 1
        self._stored(record)
