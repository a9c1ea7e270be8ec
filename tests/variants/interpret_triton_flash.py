"""Run `triton-flash` in Triton's interpreter: workloads as JSON on stdin, one verdict a line on stdout.

A process of its own, because TRITON_INTERPRET has to be set before triton is first imported.
"""

import dataclasses
import json
import sys

import torch

from attnbench import Workload
from attnbench.conformance.gate import Gate
from attnbench.inputs import make_inputs
from attnbench_variants.triton_flash import TritonFlash


def main() -> None:
    """Judge each workload."""
    torch.set_num_threads(1)
    variant = TritonFlash()
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
