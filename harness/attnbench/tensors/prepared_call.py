"""A variant made ready for a workload: alone, behind a conversion of layout, or inside a whole layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.tensors.inputs import make_inputs
from attnbench.tensors.layer import layer, make_layer_inputs
from attnbench.tensors.layout_conversion import convert_layout

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed, Variant
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload


def prepare_call(variant: Variant, workload: Workload, device: str, seed: int) -> tuple[Inputs, Timed]:
    """Make the inputs that `workload` asks for and the callable that is timed on them.

    What the variant's `prepare` returns is handed on as it is, whatever it may be, where nothing surrounds it.
    """
    if workload.embed_dim:
        around = make_layer_inputs(workload, device, variant.layout, seed)
        return around, layer(variant, workload, around)
    if workload.layout in ("native", variant.layout):
        inputs = make_inputs(workload, device, variant.layout, seed)
        return inputs, variant.prepare(workload.attention, inputs)
    inputs = make_inputs(workload, device, workload.layout, seed)  # type: ignore[arg-type]
    return inputs, convert_layout(variant, workload, inputs)
