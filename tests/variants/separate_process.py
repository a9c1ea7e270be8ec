"""Check workloads with a script in a separate process, because some libraries read the environment when imported."""

import json
import os
import subprocess
import sys
from typing import Any


def verdicts(script: str, workloads: list[dict[str, Any]], *arguments: str, **environment: str) -> list[dict[str, Any]]:
    """Send workloads to a script as JSON, and return its verdicts.

    The script writes one JSON object per line to stdout.
    """
    done = subprocess.run(
        [sys.executable, script, *arguments],
        input=json.dumps(workloads),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Skip lines that do not hold a verdict, which libraries may print.
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(workloads)
    return found
