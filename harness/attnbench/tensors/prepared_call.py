"""Prepare a variant for a workload: alone, with a layout conversion, or inside an attention layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.tensors.inputs import make_inputs
from attnbench.tensors.layer import make_layer_inputs, prepare_layer
from attnbench.tensors.layout_conversion import convert_layout

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed, Variant
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload


def prepare_call(variant: Variant, workload: Workload, device: str, seed: int) -> tuple[Inputs, Timed]:
    """Return the inputs of `workload` on `device`, and the callable to time, which reads these inputs.

    Without a layer or a layout conversion, the callable is the object that the variant's `prepare` returned. The caller
    must check that this object is callable.
    """
    if workload.embed_dim:
        layer_inputs = make_layer_inputs(workload, device, variant.layout, seed)
        return layer_inputs, prepare_layer(variant, workload, layer_inputs)
    if workload.layout in ("native", variant.layout):
        inputs = make_inputs(workload, device, variant.layout, seed)
        return inputs, variant.prepare(workload.attention, inputs)
    inputs = make_inputs(workload, device, workload.layout, seed)  # type: ignore[arg-type]
    return inputs, convert_layout(variant, workload, inputs)
