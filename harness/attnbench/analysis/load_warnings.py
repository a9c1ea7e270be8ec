"""Cells that others disturbed, and warnings of this, computed from a frame of records."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pandas as pd

from attnbench.stats.disturbance import DISTURBED, CellLoad, causes, load_warnings

MAX_READ_CELLS = 100  # the causes are read from the telemetry of this many cells, because parsing it is slow


def is_disturbed(cells: pd.DataFrame) -> pd.Series:
    """Return whether others had the cores in so many blocks of each cell that it has no verdict."""
    return pd.Series([DISTURBED in flags for flags in cells["flags"]], index=cells.index, dtype=bool)


def warnings_of(cells: pd.DataFrame) -> list[str]:
    """Return the sentences of `load_warnings` for the cells that have a time."""
    timed = cells[(cells["status"] == "ok") & ~cells["control"]]
    disturbed = is_disturbed(timed)
    if not disturbed.any():
        return []
    telemetry = islice(timed.loc[disturbed, "telemetry"], MAX_READ_CELLS)
    counts = Counter(cause for found in telemetry for block in found["blocks"] for cause in causes(block))
    return load_warnings(
        CellLoad(variant, share, counts, None if pd.isna(cores) else cores)
        for variant, share, cores in timed[["variant", "disturbed_share", "cores_used"]].itertuples(index=False)
    )
