"""One variant on one device: its cells are opened, measured in blocks, and closed, one after the other."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.layer_gate import gate_of
from attnbench.errors import PluginError
from attnbench.measure.anticheat.integrity import ProcessState
from attnbench.measure.kernels import kernels_of
from attnbench.measure.memory import measure_memory
from attnbench.measure.sampler import Sampler
from attnbench.measure_config import MeasureConfig
from attnbench.plugins.loading import PluginSource, variant_of
from attnbench.tensors.prepared_call import prepare_call
from attnbench.workloads.workload import Workload

if TYPE_CHECKING:
    from attnbench.conformance.gate import Gate, Verdict
    from attnbench.conformance.layer_gate import LayerGate
    from attnbench.plugins.variant import Timed
    from attnbench.tensors.inputs import Inputs


class Session:
    """Serves one variant; at most one cell is open."""

    def __init__(self, enter: Callable[[str], None], source: PluginSource, variant: str, device: str) -> None:
        self._enter = enter
        self._device = device
        self._cell: Cell | None = None
        self._process_state = ProcessState()  # before the plugin's first line runs
        self._variant = variant_of(source, variant)
        gc.collect()
        gc.freeze()  # what was imported stays: looking through it again after each cell would take a tenth of a second

    def open(self, workload: dict[str, Any], protocol: dict[str, Any]) -> dict[str, Any]:
        """Make a cell ready to be measured: ask, prepare, first call, conform, warm up."""
        self._drop_cell()
        problem = Workload.from_json(workload)
        self._enter("prepare")
        reason = self._variant.unsupported_reason(problem.attention, torch.device(self._device).type)
        if reason is not None:
            if not isinstance(reason, str):
                raise PluginError(f"unsupported_reason returned {reason!r}: expected a text or None")
            return {"status": "unsupported", "phase": "prepare", "reason": reason}
        self._cell = self._prepared(problem, MeasureConfig.from_json(protocol))
        return self._finished(self._cell.open())

    def block(self, duration_ns: float) -> dict[str, Any]:
        """Time one block of calls, then check an output that was kept from it."""
        return self._finished(self._opened().block(duration_ns))

    def close(self) -> dict[str, Any]:
        """Check once more after the last block, then measure memory and name the kernels."""
        reply = self._opened().close()
        self._drop_cell()
        return reply

    def _prepared(self, workload: Workload, protocol: MeasureConfig) -> Cell:
        inputs, call = prepare_call(self._variant, workload, self._device, protocol.seed)
        if not callable(call):
            raise PluginError(f"prepare returned {call!r}: expected a callable without arguments")
        gate = gate_of(self._variant, workload, inputs, call, protocol.seed)
        sampler = Sampler(call, inputs, workload, self._device, protocol, process_state=self._process_state)
        return Cell(self._enter, workload, self._device, inputs, call, gate, sampler)

    def _opened(self) -> Cell:
        if self._cell is None:
            raise PluginError("no cell is open")
        return self._cell

    def _finished(self, reply: dict[str, Any]) -> dict[str, Any]:
        if reply["status"] != "ready":
            self._drop_cell()
        return reply

    def _drop_cell(self) -> None:
        self._cell = None
        gc.collect()
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()


@dataclass
class Cell:
    """One workload under measurement: inputs, the timed callable, its gate and its sampler."""

    enter: Callable[[str], None]
    workload: Workload
    device: str
    inputs: Inputs
    call: Timed
    gate: Gate | LayerGate
    sampler: Sampler
    error: dict[str, Any] = field(default_factory=dict)

    def open(self) -> dict[str, Any]:
        """First call, conformance, warm-up."""
        self.enter("first_call")
        first_call_ns = self.sampler.first_call()
        self.enter("conform")
        verdict = self.gate.before()
        self.sampler.refuse_changes()
        if not verdict.passed:
            return _incorrect(verdict, "conform")
        self.error = verdict.to_json()
        self.enter("warm_up")
        warm_up = self.sampler.warm_up()
        return {
            "status": "ready",
            "first_call_ns": first_call_ns,
            "error": self.error,
            "call_ns": warm_up.ns_per_call,
            "flags": [] if warm_up.steady else ["warm_up_cap"],
        }

    def block(self, duration_ns: float) -> dict[str, Any]:
        """Time calls for about `duration_ns`, then check a kept output."""
        self.enter("measure")
        block = self.sampler.block(duration_ns)
        self.enter("recheck")
        kept = [(self.sampler.last_output, self.sampler.last_grads), self.sampler.plain_result]
        for output, grads in filter(None, kept):
            verdict = self.gate.recheck(output, grads)
            self.sampler.refuse_changes()
            if not verdict.passed:
                return _incorrect(verdict, "recheck")
        return {"status": "ready", **block.to_json()}

    def close(self) -> dict[str, Any]:
        """Conformance once more, then memory and kernels in passes of their own."""
        self.enter("conform")
        verdict = self.gate.after()
        self.sampler.refuse_changes()
        if not verdict.passed:
            return _incorrect(verdict, "conform")
        self.enter("memory")
        memory = measure_memory(self.call, self.inputs, self.workload, self.device)
        self.enter("profile")
        kernels = kernels_of(self.call, self.inputs, self.workload, self.device)
        return {"status": "ok", "error": self.error, "memory": memory.to_json(), "kernels": kernels.to_json()}


def _incorrect(verdict: Verdict, phase: str) -> dict[str, Any]:
    return {"status": "incorrect", "phase": phase, "reason": verdict.reason, "error": verdict.to_json()}


def facts(device: str) -> dict[str, Any]:
    """Say of the environment what only torch knows."""
    cuda = device.startswith("cuda")
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "capability": list(torch.cuda.get_device_capability()) if cuda else None,
        "threads": torch.get_num_threads(),
    }
