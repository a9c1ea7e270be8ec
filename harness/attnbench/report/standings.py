"""The page's headline tables, typeset by great_tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from attnbench.report.figures import slug

if TYPE_CHECKING:
    from attnbench.analysis.ranking import Group
    from attnbench.report.table import Table


def standings(groups: Sequence[Group], tables: Sequence[Table]) -> dict[str, str]:
    """Typeset the headline tables, one a device, as HTML; `tables` are those that `headline` made of `groups`."""
    devices = dict.fromkeys(group.device_name for group in groups)
    return {
        device: _one_device(
            device, [(group, table) for group, table in zip(groups, tables, strict=True) if group.device_name == device]
        )
        for device in devices
    }


def _one_device(device: str, contests: Sequence[tuple[Group, Table]]) -> str:
    from great_tables import GT, html, loc, style

    columns = list(contests[0][1].columns)
    rows: list[list[str]] = []
    best: list[int] = []
    for group, table in contests:
        mode = "" if group.mode == "hot" else f" · {group.mode}"
        for cells in table.rows:
            if cells[0].best:
                best.append(len(rows))
            rows.append([f"{group.direction} · {group.mask}{mode}", *(cell.text for cell in cells)])
    frame = pd.DataFrame(rows, columns=["contest", *columns])
    notes = [f"{group.direction} · {group.mask}: {' '.join(table.notes[1:])}" for group, table in contests]
    made = (
        GT(frame, rowname_col=columns[0], groupname_col="contest", id=f"standings-{slug(device)}")
        .cols_align("right", columns=columns[1:])
        .tab_style(style.text(weight="bold"), [loc.body(rows=best), loc.stub(rows=best)])
        .sub_missing(missing_text="")
    )
    for note in notes:
        made = made.tab_source_note(html(_escaped(note)))
    text: str = made.as_raw_html(inline_css=False)
    return text


def _escaped(text: str) -> str:
    import html

    return html.escape(text)
