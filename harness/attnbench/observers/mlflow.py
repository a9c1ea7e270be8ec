"""Records in MLflow: `attnbench run -p attnbench.observers.mlflow`; needs `pip install 'attnbench[mlflow]'`.

A run is an MLflow run of the experiment that MLFLOW_EXPERIMENT_NAME names (default: attnbench), and each record a run
nested in it, with variant, workload and device as parameters and its numbers as metrics. MLFLOW_TRACKING_URI says where
to, as everywhere; without it, and without the database packages of the full mlflow, that is the folder `mlruns`.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attnbench.hookspecs import hookimpl
from attnbench.observers.facts import metrics, parameters

try:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
except ImportError as error:
    raise ImportError(f"needs the package mlflow-skinny (pip install 'attnbench[mlflow]'): {error}") from error

LONGEST_VALUE = 6000  # characters of a parameter, by MLflow's limit
STATUSES = {"ok": "FINISHED", "unsupported": "FINISHED", "interrupted": "KILLED"}
now: dict[str, Any] = {}  # the client, the experiment's and the parent run's ids, of the run that is observed


@hookimpl
def attnbench_run_started(manifest: dict[str, Any]) -> None:
    """Start the run that the records are nested in."""
    client = MlflowClient(tracking_uri=_tracking_uri())
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "attnbench")
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name)
    parent = client.create_run(experiment, run_name=manifest["run_id"]).info.run_id
    now.update(client=client, experiment=experiment, parent=parent)
    client.log_param(parent, "cells", len(manifest["plan"]))
    for fact, value in manifest.get("machine", {}).items():
        client.set_tag(parent, f"machine.{fact}", str(value)[:LONGEST_VALUE])


@hookimpl
def attnbench_record_stored(record: dict[str, Any]) -> None:
    """Log one record as a nested run."""
    client: MlflowClient = now["client"]
    about = parameters(record)
    control = " (control)" if record["control"] else ""
    run = client.create_run(
        now["experiment"],
        tags={MLFLOW_PARENT_RUN_ID: now["parent"]},
        run_name=f"{about['variant']} {about['workload']}{control}",
    )
    started = run.info.start_time
    client.log_batch(
        run.info.run_id,
        params=[Param(name, value[:LONGEST_VALUE]) for name, value in about.items()],
        metrics=[Metric(name, value, started, 0) for name, value in metrics(record).items()],
    )
    client.set_terminated(run.info.run_id, STATUSES.get(record["status"], "FAILED"))


@hookimpl
def attnbench_run_ended(summary: dict[str, Any]) -> None:
    """Count the records by status, and end the run."""
    client: MlflowClient = now["client"]
    for status, count in summary.items():
        client.log_metric(now["parent"], f"cells_{status}", count)
    client.set_terminated(now["parent"])


def _tracking_uri() -> str | None:
    """Give the folder `mlruns` where nothing else is named or can be had; MLflow wants folders allowed by name."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    uri = given or (None if find_spec("sqlalchemy") else (Path.cwd() / "mlruns").as_uri())
    if uri is not None and (uri.startswith("file:") or "://" not in uri):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return uri
