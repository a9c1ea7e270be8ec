"""Log records to MLflow.

Install this plugin with `pip install 'attnbench[mlflow]'`, and use it with
`attnbench run -p attnbench.observers.mlflow`.

Each run becomes an MLflow run in the experiment that MLFLOW_EXPERIMENT_NAME names (default: attnbench). Each record
becomes a nested run. The parameters of the nested run are the variant, the workload and the device, and its metrics are
the numbers of the record.

As usual, MLFLOW_TRACKING_URI sets the tracking server. If the variable is not set, MLflow's default is used. Without
SQLAlchemy, which the full mlflow package installs, runs are stored in the `mlruns` folder instead.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attnbench.hookspecs import hookimpl
from attnbench.observers.record_values import metrics, parameters

try:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
except ImportError as error:
    raise ImportError(f"needs the package mlflow-skinny (pip install 'attnbench[mlflow]'): {error}") from error

MAX_VALUE_LENGTH = 6000  # in characters; MLflow rejects longer parameter values
STATUSES = {"ok": "FINISHED", "unsupported": "FINISHED", "interrupted": "KILLED"}
current: dict[str, Any] = {}  # the MLflow client, and the ids of the MLflow experiment and run


@hookimpl
def attnbench_run_started(manifest: dict[str, Any]) -> None:
    """Start the MLflow run that will contain the nested run of each record."""
    client = MlflowClient(tracking_uri=_tracking_uri())
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "attnbench")
    existing = client.get_experiment_by_name(name)
    experiment = existing.experiment_id if existing else client.create_experiment(name)
    parent = client.create_run(experiment, run_name=manifest["run_id"]).info.run_id
    current.update(client=client, experiment=experiment, parent=parent)
    client.log_param(parent, "cells", len(manifest["plan"]))
    for fact, value in manifest.get("machine", {}).items():
        client.set_tag(parent, f"machine.{fact}", str(value)[:MAX_VALUE_LENGTH])


@hookimpl
def attnbench_record_stored(record: dict[str, Any]) -> None:
    """Log one record as a nested run."""
    client: MlflowClient = current["client"]
    about = parameters(record)
    control = " (control)" if record["control"] else ""
    run = client.create_run(
        current["experiment"],
        tags={MLFLOW_PARENT_RUN_ID: current["parent"]},
        run_name=f"{about['variant']} {about['workload']}{control}",
    )
    started = run.info.start_time
    client.log_batch(
        run.info.run_id,
        params=[Param(name, value[:MAX_VALUE_LENGTH]) for name, value in about.items()],
        metrics=[Metric(name, value, started, 0) for name, value in metrics(record).items()],
    )
    client.set_terminated(run.info.run_id, STATUSES.get(record["status"], "FAILED"))


@hookimpl
def attnbench_run_ended(summary: dict[str, Any]) -> None:
    """Log the number of records with each status, and end the MLflow run."""
    client: MlflowClient = current["client"]
    for status, count in summary.items():
        client.log_metric(current["parent"], f"cells_{status}", count)
    client.set_terminated(current["parent"])


def _tracking_uri() -> str | None:
    """Return the tracking URI, or None for MLflow's default.

    If MLFLOW_TRACKING_URI is not set and SQLAlchemy is not installed, the URI is that of the `mlruns` folder. If the
    URI points to a folder, this function also sets MLFLOW_ALLOW_FILE_STORE, because MLflow rejects folders otherwise.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or (
        None if find_spec("sqlalchemy") else (Path.cwd() / "mlruns").as_uri()
    )
    if uri is not None and (uri.startswith("file:") or "://" not in uri):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return uri
