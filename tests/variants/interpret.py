"""Check a variant in Triton's interpreter.

The script reads workloads as JSON from stdin and writes one verdict per line to stdout. It runs in a separate process
because TRITON_INTERPRET must be set before triton is imported.
"""

import dataclasses
import json
import sys
from typing import Any

import torch
from separate_process import verdicts

from attnbench import Variant, Workload
from attnbench.conformance.gate import Gate
from attnbench.tensors.inputs import make_inputs


def judge(variant: str, workloads: list[dict[str, Any]], **environment: str) -> list[dict[str, Any]]:
    """Check a variant on each workload with the gate, and return the verdicts.

    All workloads are checked in one separate process, which uses Triton's interpreter.
    """
    return verdicts(__file__, workloads, variant, TRITON_INTERPRET="1", **environment)


def wrong(judged: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the verdicts of the workloads that failed."""
    return [verdict for verdict in judged if not verdict["passed"]]


def _variants() -> list[Variant]:
    from interpreted import UnguardedSage, attnbench_variants

    from attnbench_variants.triton_flash import TritonFlash, TritonFlashAtomic

    return [TritonFlash(), TritonFlashAtomic(), UnguardedSage(), *attnbench_variants()]


def main() -> None:
    """Check the variant on each workload and print each verdict."""
    torch.set_num_threads(1)
    variant = {each.name: each for each in _variants()}[sys.argv[1]]
    for fields in json.load(sys.stdin):
        workload = Workload.from_json(fields)
        reason = variant.unsupported_reason(workload, "cpu")
        if reason:
            print(json.dumps({"id": workload.id, "passed": False, "reason": reason}))
            continue
        inputs = make_inputs(workload, "cpu", variant.layout)
        verdict = Gate(variant, workload, inputs, variant.prepare(workload, inputs), seed=0).before()
        print(json.dumps({"id": workload.id, **dataclasses.asdict(verdict)}), flush=True)


if __name__ == "__main__":
    main()
