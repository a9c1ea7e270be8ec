"""Check workloads in a separate process, for libraries that read the environment when they are imported."""

import json
import os
import subprocess
import sys
from typing import Any


def verdicts(script: str, workloads: list[dict[str, Any]], *arguments: str, **environment: str) -> list[dict[str, Any]]:
    """Send workloads to a script as JSON on stdin, and return its verdicts, one JSON object per line of stdout."""
    done = subprocess.run(
        [sys.executable, script, *arguments],
        input=json.dumps(workloads),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]  # libraries print, too
    assert len(found) == len(workloads)
    return found
