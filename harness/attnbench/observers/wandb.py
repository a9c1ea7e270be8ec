"""Log records to Weights & Biases.

Install this plugin with `pip install 'attnbench[wandb]'`, and use it with `attnbench run -p attnbench.observers.wandb`.

Each run becomes a W&B run in the project named by WANDB_PROJECT (default: attnbench). Each record becomes a row of
the `records` table and, unless it is an A/A control, a step of the W&B run. As usual, WANDB_MODE=offline stores
everything in the `wandb` folder.
"""

from __future__ import annotations

import os
from typing import Any

from attnbench.hookspecs import hookimpl
from attnbench.observers.record_values import metrics, parameters

try:
    import wandb
except ImportError as error:
    raise ImportError(f"needs the package wandb (pip install 'attnbench[wandb]'): {error}") from error

current: dict[str, Any] = {}  # the W&B run and the rows that its table will contain


@hookimpl
def attnbench_run_started(manifest: dict[str, Any]) -> None:
    """Start a W&B run whose configuration contains the machine and the number of cells."""
    current["run"] = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "attnbench"),
        name=manifest["run_id"],
        config={"cells": len(manifest["plan"]), "machine": manifest.get("machine", {})},
    )
    current["rows"] = []


@hookimpl
def attnbench_record_stored(record: dict[str, Any]) -> None:
    """Add one record to the table. Unless it is an A/A control, also log its numbers under the variant's name."""
    about, numbers = parameters(record), metrics(record)
    current["rows"].append({**about, **numbers, "control": bool(record["control"])})
    if not record["control"]:
        current["run"].log({f"{about['variant']}/{name}": value for name, value in numbers.items()})


@hookimpl
def attnbench_run_ended(summary: dict[str, Any]) -> None:
    """Log the table and the number of records with each status, and end the W&B run."""
    columns = list(dict.fromkeys(name for row in current["rows"] for name in row))
    table = wandb.Table(columns=columns, data=[[row.get(name) for name in columns] for row in current["rows"]])
    current["run"].log({"records": table})
    current["run"].summary.update({f"cells_{status}": count for status, count in summary.items()})
    current["run"].finish()
