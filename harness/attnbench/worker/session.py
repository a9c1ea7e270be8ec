"""One variant on one device: its cells are opened, measured in blocks, and closed, one after the other."""

from __future__ import annotations

import gc
import platform
from collections.abc import Callable
from typing import Any

import torch

from attnbench.conformance.gate import Gate, Verdict
from attnbench.errors import PluginError
from attnbench.inputs import make_inputs
from attnbench.measure.integrity import Guard
from attnbench.measure.kernels import kernels_of
from attnbench.measure.memory import measure_memory
from attnbench.measure.protocol import Protocol
from attnbench.measure.sampler import Sampler
from attnbench.registry import Source, variant_of
from attnbench.variant import Variant
from attnbench.workload import Workload


class Session:
    """Serves one variant; at most one cell is open."""

    def __init__(self, enter: Callable[[str], None], source: Source, variant: str, device: str) -> None:
        self._enter = enter
        self._device = device
        self._cell: Cell | None = None
        if device.startswith("cuda"):
            torch.cuda.init()
        self._guard = Guard()  # before the plugin's first line runs
        self._variant = variant_of(source, variant)

    def facts(self) -> dict[str, Any]:
        """Say what only torch knows of the environment."""
        cuda = self._device.startswith("cuda")
        return {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version() if cuda else None,
            "threads": torch.get_num_threads(),
            "device_name": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
            "capability": list(torch.cuda.get_device_capability()) if cuda else None,
        }

    def open(self, workload: dict[str, Any], protocol: dict[str, Any]) -> dict[str, Any]:
        """Make a cell ready to be measured: ask, prepare, first call, conform, warm up."""
        self._drop_cell()
        problem = Workload.from_json(workload)
        self._enter("prepare")
        reason = self._variant.unsupported_reason(problem, torch.device(self._device).type)
        if reason is not None:
            if not isinstance(reason, str):
                raise PluginError(f"unsupported_reason returned {reason!r}: expected a text or None")
            return {"status": "unsupported", "phase": "prepare", "reason": reason}
        self._cell = Cell(
            self._enter, self._guard, self._variant, problem, self._device, Protocol.from_json(protocol)
        )
        return self._finished(self._cell.open())

    def block(self, duration_ns: float) -> dict[str, Any]:
        """Time one block of calls, then check an output that was kept from it."""
        return self._finished(self._opened().block(duration_ns))

    def close(self) -> dict[str, Any]:
        """Check once more after the last block, then measure memory and name the kernels."""
        reply = self._opened().close()
        self._drop_cell()
        return reply

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


class Cell:
    """One workload under measurement: inputs, the timed callable, its gate and its sampler."""

    def __init__(
        self,
        enter: Callable[[str], None],
        guard: Guard,
        variant: Variant,
        workload: Workload,
        device: str,
        protocol: Protocol,
    ) -> None:
        self._enter = enter
        self._workload, self._device = workload, device
        self._inputs = make_inputs(workload, device, variant.layout, protocol.seed)
        self._call = variant.prepare(workload, self._inputs)
        if not callable(self._call):
            raise PluginError(f"prepare returned {self._call!r}: expected a callable without arguments")
        self._gate = Gate(variant, workload, self._inputs, self._call, protocol.seed)
        self._sampler = Sampler(self._call, self._inputs, workload, device, protocol, guard=guard)
        self._error: dict[str, Any] = {}

    def open(self) -> dict[str, Any]:
        """First call, conformance, warm-up."""
        self._enter("first_call")
        first_call_ns = self._sampler.first_call()
        self._enter("conform")
        verdict = self._gate.before()
        if not verdict.passed:
            return _incorrect(verdict, "conform")
        self._error = verdict.to_json()
        self._enter("warm_up")
        warm_up = self._sampler.warm_up()
        return {
            "status": "ready",
            "first_call_ns": first_call_ns,
            "error": self._error,
            "call_ns": warm_up.ns_per_call,
            "flags": [] if warm_up.steady else ["warm_up_cap"],
        }

    def block(self, duration_ns: float) -> dict[str, Any]:
        """Time calls for about `duration_ns`, then check a kept output."""
        self._enter("measure")
        block = self._sampler.block(duration_ns)
        self._enter("recheck")
        verdict = self._gate.recheck(self._sampler.last_output, self._sampler.last_grads)
        if not verdict.passed:
            return _incorrect(verdict, "recheck")
        return {"status": "ready", **block.to_json()}

    def close(self) -> dict[str, Any]:
        """Conformance once more, then memory and kernels in passes of their own."""
        self._enter("conform")
        verdict = self._gate.after()
        if not verdict.passed:
            return _incorrect(verdict, "conform")
        self._enter("memory")
        memory = measure_memory(self._call, self._inputs, self._workload, self._device)
        self._enter("profile")
        kernels = kernels_of(self._call, self._inputs, self._workload, self._device)
        return {"status": "ok", "error": self._error, "memory": memory.to_json(), "kernels": kernels.to_json()}


def _incorrect(verdict: Verdict, phase: str) -> dict[str, Any]:
    return {"status": "incorrect", "phase": phase, "reason": verdict.reason, "error": verdict.to_json()}
