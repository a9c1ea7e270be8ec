"""Write what the site takes from the code: figures, and the command line's reference."""

from __future__ import annotations

from pathlib import Path

import figures
import reference


def generate_all(folder: Path) -> None:
    """Write every generated file of the site into `folder`."""
    folder.mkdir(exist_ok=True)
    figures.studies(folder)
    for draw in (figures.masks, figures.layers):
        draw(folder / f"{draw.__name__}.svg")
    (folder / "command_line.md").write_text(reference.command_line(), encoding="utf-8")


if __name__ == "__main__":
    generate_all(Path(__file__).parent / "_generated")
