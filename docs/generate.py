"""Write the generated parts of the site: figures, the command-line reference and tables of checks."""

from __future__ import annotations

from pathlib import Path

import figures
import reference

from attnbench.conformance.checks import DEMANDED, TRAITS


def generate_all(folder: Path) -> None:
    """Write all generated files of the documentation into `folder`."""
    folder.mkdir(exist_ok=True)
    figures.studies(folder)
    for draw in (figures.masks, figures.layers):
        draw(folder / f"{draw.__name__}.svg")
    (folder / "command_line.md").write_text(reference.command_line(), encoding="utf-8")
    (folder / "checks.md").write_text(reference.checks(DEMANDED), encoding="utf-8")
    (folder / "traits.md").write_text(reference.checks(TRAITS), encoding="utf-8")


if __name__ == "__main__":
    generate_all(Path(__file__).parent / "_generated")
