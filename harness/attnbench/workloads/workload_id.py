"""Reading a workload's id back into its fields."""

from __future__ import annotations

import re
from typing import Any

from attnbench.errors import WorkloadError

_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"  # as repr writes a float
ID = re.compile(
    r"b(?P<batch>\d+)-h(?P<heads>\d+)(-kv(?P<kv_heads>\d+))?-(s(?P<seq>\d+)|q(?P<seq_q>\d+)-k(?P<seq_k>\d+))"
    r"-d(?P<head_dim>\d+)(-v(?P<head_dim_v>\d+))?-(?P<dtype>[a-z]+\d+)-(?P<mask>[a-z][a-z0-9:-]*?)"
    r"-(?P<direction>forward_backward|forward|backward)"
    rf"(-scale(?P<scale>{_NUMBER}))?(-softcap(?P<softcap>{_NUMBER}))?(?P<alibi>-alibi)?(-dropout(?P<dropout>{_NUMBER}))?"
    r"(-embed(?P<embed_dim>\d+))?(-(?P<layout>BHSD|BSHD))?(-(?P<distribution>uniform|integers|outliers|zeros))?"
    r"(-gpus(?P<gpus>\d+)-(?P<split>batch|heads|ring))?"
)
EXAMPLE = "b1-h8-s512-d64-float32-causal-forward"
WHOLE = ("batch", "heads", "kv_heads", "seq", "seq_q", "seq_k", "head_dim", "head_dim_v", "embed_dim", "gpus")


def fields_of(text: str) -> dict[str, Any]:
    """Give the fields that an id names; raises WorkloadError, which shows what an id looks like."""
    found = ID.fullmatch(text)
    if found is None:
        raise WorkloadError(f"workload {text!r}: expected an id such as {EXAMPLE}")
    fields: dict[str, Any] = {name: value for name, value in found.groupdict().items() if value is not None}
    for name in WHOLE:
        if name in fields:
            fields[name] = int(fields[name])
    for name in ("scale", "softcap", "dropout"):
        if name in fields:
            fields[name] = float(fields[name])
    seq = fields.pop("seq", None)
    lengths = {} if seq is None else {"seq_q": seq, "seq_k": seq}
    return {**fields, **lengths, "alibi": "alibi" in fields}
