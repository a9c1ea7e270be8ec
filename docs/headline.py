"""Write the headline of a published run into README.md: `python docs/headline.py RUN`.

The section between the two `headline` comments in README.md is replaced by the run's figure and standings. The figure
is always copied to the same path. `python docs/headline.py --machine` instead prints the name of this machine's
folder under results/published.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from attnbench.plan.devices import list_devices
from attnbench.report.content import Content, read
from attnbench.report.figures import slug
from attnbench.report.table import escape_markdown, to_markdown

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- headline: written by docs/headline.py -->\n", "<!-- /headline -->\n"
FIGURE = Path("results/published/headline.svg")


def main(argument: str, root: Path = ROOT) -> None:
    """Update the README in `root` from the run whose folder is `argument`.

    If `argument` is `--machine`, print the name of this machine's folder under results/published instead.
    """
    if argument == "--machine":
        devices = list_devices()
        chosen = next((device for device in devices if device.kind == "cuda"), devices[0])
        sys.stdout.write(f"{slug(chosen.model)}\n")
        return
    run = Path(argument).resolve()
    content = read(run)
    device = content.contests[0].device_name
    shutil.copyfile(run / "report" / "figures" / f"latency-{slug(device)}.svg", root / FIGURE)
    readme = root / "README.md"
    head, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        sys.exit(f"README.md lacks the comments {BEGIN.strip()} and {END.strip()}")
    report = (run / "report" / "report.md").relative_to(root.resolve()).as_posix()
    readme.write_text(f"{head}{BEGIN}{section(content, report)}{END}{tail}", encoding="utf-8")


def section(content: Content, report: str) -> str:
    """Return the README section: the figure, the standings in the contest with the most shapes, and a report link."""
    first = max(range(len(content.contests)), key=lambda index: content.contests[index].shapes)
    alt = "Median latency against sequence length, with 95% intervals"
    return "\n".join(
        [
            f"\n{escape_markdown(content.summary)}\n",
            f"![{alt}]({FIGURE.as_posix()})\n",
            to_markdown(content.headline[first]),
            f"All tables, the method and the machine are in [its report]({report}); the records are beside it.\n\n",
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1])
