"""The `attnbench doctor` command."""

from __future__ import annotations

import json

from attnbench.cli.arguments import Json

MARKS = {"ok": "ok     ", "warning": "WARNING", "unknown": "?      "}


def doctor(json_: Json = False) -> None:
    """Show what would distort timings on this machine or keep its GPUs from being used, and how to fix it.

    The command changes nothing on the machine.
    """
    from attnbench.machine.doctor import examine

    findings = examine(load_extensions=True)
    if json_:
        print(json.dumps([finding.to_json() for finding in findings], indent=1))
        return
    for finding in findings:
        print(f"{MARKS.get(finding.level, finding.level)}  {finding.check}: {finding.found}")
        if finding.remedy:
            print(f"         {finding.remedy}")
