"""How many workers may be resident on a device, and which of them are kept."""

from collections import Counter
from types import SimpleNamespace

import pytest

from attnbench import Workload
from attnbench.errors import UsageError
from attnbench.isolation import worker_process
from attnbench.plan.devices import Device
from attnbench.plan.memory_frontier import least_bytes
from attnbench.runner import cell_runners, places
from attnbench.runner.cell_limits import CellLimits
from attnbench.runner.cell_runners import CellRunners
from attnbench.runner.places import CONTEXT_BYTES, WORKER_BYTES, places_on

GIB = 1 << 30
SMALL = Workload(heads=2, seq_q=16, head_dim=8)
LARGE = Workload(heads=32, seq_q=1 << 17, head_dim=128, dtype="bfloat16")


def gpu(memory_bytes=80 * GIB, **fields):
    """Return a GPU."""
    return Device("cuda:0", "H100", "GPU-0", "570.1", memory_bytes, **fields)


def on_host(monkeypatch, available, device, workload=SMALL, resident=0, devices=1, **limits):
    """Return the number of places on a host with this much available memory and a reserve of 2 GiB."""
    monkeypatch.setattr(places, "available_bytes", lambda: available)
    monkeypatch.setattr(places, "host_memory", lambda kind: SimpleNamespace(reserve_bytes=2 * GIB))
    return places_on(device, workload, CellLimits(**limits), resident=resident, devices=devices)


def test_the_hosts_memory_limits_the_workers_of_a_gpu(monkeypatch):
    """CUDA workers have places for as much host memory as is available, less the reserve, divided among devices."""
    assert on_host(monkeypatch, 32 * GIB, gpu()) == 30 * GIB // WORKER_BYTES["cuda"]
    assert on_host(monkeypatch, 12 * GIB, gpu(), resident=10) == 10 * GIB // WORKER_BYTES["cuda"] + 10
    assert on_host(monkeypatch, 34 * GIB, gpu(), devices=4) == 8 * GIB // WORKER_BYTES["cuda"]
    assert on_host(monkeypatch, 1 * GIB, gpu()) == 1


def test_the_memory_of_a_gpu_limits_its_workers(monkeypatch):
    """Each resident worker of a GPU needs a context and the tensors of its cell, and one worker needs them twice."""
    cell = least_bytes(LARGE)
    found = on_host(monkeypatch, 1 << 40, gpu(24 * GIB), LARGE)
    assert 1 < found < on_host(monkeypatch, 1 << 40, gpu(80 * GIB), LARGE)
    assert found * (CONTEXT_BYTES + cell) + cell <= 0.95 * 24 * GIB < (found + 1) * (CONTEXT_BYTES + cell) + cell
    team = Device.team([gpu(24 * GIB)] * 2)
    assert on_host(monkeypatch, 1 << 40, team, LARGE) == found


def test_cells_on_a_cpu_share_the_hosts_memory(monkeypatch):
    """On a CPU, the tensors of the open cells count as host memory."""
    cpu = Device("cpu", "a CPU", "host/cpu")
    cell = least_bytes(LARGE)
    found = on_host(monkeypatch, 32 * GIB, cpu, LARGE)
    assert found * (WORKER_BYTES["cpu"] + cell) + cell <= 30 * GIB < (found + 1) * (WORKER_BYTES["cpu"] + cell) + cell


def test_the_user_can_choose_the_number_of_workers(monkeypatch):
    """`max_workers` replaces the number that fits in memory, and must be at least 1."""
    assert on_host(monkeypatch, 32 * GIB, gpu(), max_workers=40) == 40
    with pytest.raises(UsageError, match="max_workers is 0: expected at least 1"):
        CellLimits(max_workers=0)


def test_an_exclusive_gpu_has_one_place(monkeypatch):
    """A GPU in the compute mode EXCLUSIVE_PROCESS has one place, whatever the user chose."""
    assert on_host(monkeypatch, 32 * GIB, gpu(exclusive=True), max_workers=40) == 1
    assert on_host(monkeypatch, 32 * GIB, Device.team([gpu(exclusive=True)] * 2)) == 1


class FakeRunner:
    """A stand-in for a cell runner, whose worker is only a flag."""

    def __init__(self, context, resident_workers):
        self.has_worker = self.is_open = False

    def start(self, cell):
        self.has_worker = True

    def stop_if_grown(self, kind):
        """Keep the worker."""

    def stop(self):
        assert not self.is_open
        self.has_worker = False

    def wait_until_loaded(self):
        assert self.has_worker


def cell_of(name):
    """Return a stand-in for a cell of the variant with this name."""
    return SimpleNamespace(variant=SimpleNamespace(name=name), device=SimpleNamespace(kind="cpu"))


@pytest.fixture
def workers(monkeypatch):
    """Return cell runners, and functions that start the workers of variants and list the variants with a worker."""
    monkeypatch.setattr(cell_runners, "CellRunner", FakeRunner)
    runners = CellRunners(None)

    def start(names, count, process=0):
        runners.start([cell_of(name) for name in names], process, count)

    def resident():
        return "".join(name for name in "abcdef" if runners.for_cell(cell_of(name)).has_worker)

    return runners, start, resident


def test_the_worker_that_was_not_used_for_longest_is_stopped(workers):
    """If a device has no place for a further worker, the worker that was not used for the longest time is stopped."""
    _, start, resident = workers
    start("abc", 3)
    start("a", 3)
    start("d", 3)
    assert resident() == "acd"


def test_workers_that_are_needed_or_have_an_open_cell_are_kept(workers):
    """Neither a worker with an open cell nor one of the workers to start is stopped."""
    runners, start, resident = workers
    start("abcd", 4)
    runners.for_cell(cell_of("a")).is_open = True
    start("eb", 3)
    assert resident() == "abe"


def test_all_workers_but_one_are_stopped(workers):
    """All workers are stopped, including further processes of a variant, except the worker for the given cell."""
    runners, start, resident = workers
    start("abc", 4)
    start("b", 4, process=1)
    runners.stop(keep=cell_of("b"))
    assert resident() == "b"
    assert not runners.for_cell(cell_of("b"), 1).has_worker


def test_a_worker_that_has_grown_is_replaced(stubbed, monkeypatch):
    """A worker that holds 256 MiB more than at its start is replaced before the next workload."""

    def held_bytes(process):
        opened = Counter(int(pid) for _, _, pid in stubbed.opened()) if stubbed.log.exists() else Counter()
        return opened[process] * 200 * 2**20

    monkeypatch.setattr(worker_process, "resident_bytes", held_bytes)
    _, summary = stubbed.run(seq=[8, 12, 16, 20])
    assert summary.statuses == {"ok": 8}
    assert set(Counter(pid for _, _, pid in stubbed.opened()).values()) == {2}
