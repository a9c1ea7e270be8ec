"""Series: groups of cells that differ only in variant and length, each drawn as one chart over sequence length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from attnbench.workloads.workload import AXES

TITLE = ("direction", "mask", "dtype")  # the fields that come first in the title and sort key of a series
# Attention options, such as softcap, that appear in the title of a series if they differ from the default.
OPTIONAL = [
    name for name, axis in AXES.items() if axis.exact and axis.is_optional and not axis.same_as and axis.kind is not str
]
SETTING = [
    *("environment_id", "device_name", "mode", *TITLE),
    *(name for name, axis in AXES.items() if axis.setting and name not in TITLE),
    "form",
]


@dataclass(frozen=True)
class Series:
    """Cells that differ only in variant and length.

    Their batch may also differ if every length was measured with exactly one batch.
    """

    device_name: str
    mode: str
    direction: str
    mask: str
    dtype: str
    shape: str
    frame: pd.DataFrame

    @property
    def title(self) -> str:
        """The setting in words, without the device, such as `forward · causal · bfloat16 · B1 H8 D64`."""
        mode = "" if self.mode == "hot" else f" · {self.mode}"
        return f"{self.direction} · {self.mask} · {self.dtype}{mode} · {self.shape}"

    @property
    def setting(self) -> tuple[str, ...]:
        """The setting without the batch. It is equal for series that differ only in batch."""
        shape = self.shape.partition(" ")[2] if self.batch else self.shape
        return (self.device_name, self.mode, self.direction, self.mask, self.dtype, shape)

    @property
    def batch(self) -> int | None:
        """The batch of all cells, or None if the batch differs between lengths."""
        batches = set(self.frame["batch"].tolist())
        return batches.pop() if len(batches) == 1 else None


def with_length(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the additional columns `length` and `form`.

    `length` is the larger of seq_q and seq_k. `form` is `self` if they are equal, `decode` if a single query has
    several keys, and `cross` otherwise.
    """
    form = pd.Series("cross", index=frame.index)
    form[frame["seq_q"] == frame["seq_k"]] = "self"
    form[(frame["seq_q"] == 1) & (frame["seq_k"] > 1)] = "decode"
    return frame.assign(length=frame[["seq_q", "seq_k"]].max(axis=1), form=form)


def series(frame: pd.DataFrame) -> list[Series]:
    """Split a frame into series, sorted by decreasing number of lengths and then by setting."""
    found = []
    for key, setting in with_length(frame).groupby(SETTING, dropna=False, sort=True):
        fields = dict(zip(SETTING, key, strict=True))
        found += [_series(fields, part) for part in _by_batch(setting)]
    return sorted(found, key=lambda line: -len(set(line.frame["length"].tolist())))


def shape_text(fields: Any) -> str:
    """Return the heads, head dimensions and options in short form, such as `H32/8 D128 softcap 50`.

    The number of key/value heads and the head dimension of the values are left out if they are the same as for the
    queries. Options with their default value are left out.
    """
    heads, width = f"H{fields['heads']}", f"D{fields['head_dim']}"
    if fields["kv_heads"] != fields["heads"]:
        heads += f"/{fields['kv_heads']}"
    if fields["head_dim_v"] != fields["head_dim"]:
        width += f"/{fields['head_dim_v']}"
    given = (axis for name, axis in AXES.items() if name in OPTIONAL and fields[name] != axis.default)
    options = [
        axis.name if axis.kind is bool else f"{axis.name} {fields[axis.name]:g}"
        for axis in given
        if pd.notna(fields[axis.name])
    ]
    return " ".join([heads, width, *options])


def surroundings_text(fields: Any) -> str:
    """Describe the layer, layout, inputs and devices, such as ` layer of 512 in BSHD`.

    Default values are left out, so the text is empty if all values are defaults.
    """
    extras = [f"layer of {fields['embed_dim']}"] if fields["embed_dim"] else []
    extras += [f"in {fields['layout']}"] if fields["layout"] != "native" else []
    extras += [fields["distribution"]] if fields["distribution"] != "normal" else []
    extras += [f"{fields['gpus']} devices by {fields['split']}"] if fields["gpus"] > 1 else []
    return "".join(f" {extra}" for extra in extras)


def _by_batch(setting: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Split the cells of a setting by batch, unless each length has exactly one batch.

    A setting with a constant number of tokens, in which the batch shrinks as the length grows, therefore stays one
    series.
    """
    lengths, batches = setting["length"].tolist(), setting["batch"].tolist()
    if len(set(zip(lengths, batches, strict=True))) == len(set(lengths)):
        yield setting
    else:
        yield from (part for _, part in setting.groupby("batch", sort=True))


def _series(fields: dict[str, Any], frame: pd.DataFrame) -> Series:
    batches = sorted(frame["batch"].unique())
    batch = f"B{batches[0]}" if len(batches) == 1 else f"B{batches[-1]} to {batches[0]}"
    form = "" if fields["form"] == "self" else f" {fields['form']}"
    names = ("device_name", "mode", *TITLE)
    return Series(
        **{name: fields[name] for name in names},
        shape=f"{batch} {shape_text(fields)}{surroundings_text(fields)}{form}",
        frame=frame,
    )
