"""Log records to MLflow: `attnbench run -p attnbench.observers.mlflow`; needs `pip install 'attnbench[mlflow]'`.

Each run becomes an MLflow run of the experiment named by MLFLOW_EXPERIMENT_NAME (default: attnbench), and each record a
run nested in it, with variant, workload and device as parameters and its numbers as metrics. MLFLOW_TRACKING_URI names
the tracking server, as usual. Without it, runs go to the folder `mlruns`, unless the full mlflow with its database
packages is installed, whose default is used then.
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

LONGEST_VALUE = 6000  # characters: MLflow's limit for a parameter
STATUSES = {"ok": "FINISHED", "unsupported": "FINISHED", "interrupted": "KILLED"}
current: dict[str, Any] = {}  # of the observed run: the client, and the ids of the experiment and the parent run


@hookimpl
def attnbench_run_started(manifest: dict[str, Any]) -> None:
    """Start the parent run, in which the records are nested."""
    client = MlflowClient(tracking_uri=_tracking_uri())
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "attnbench")
    existing = client.get_experiment_by_name(name)
    experiment = existing.experiment_id if existing else client.create_experiment(name)
    parent = client.create_run(experiment, run_name=manifest["run_id"]).info.run_id
    current.update(client=client, experiment=experiment, parent=parent)
    client.log_param(parent, "cells", len(manifest["plan"]))
    for fact, value in manifest.get("machine", {}).items():
        client.set_tag(parent, f"machine.{fact}", str(value)[:LONGEST_VALUE])


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
        params=[Param(name, value[:LONGEST_VALUE]) for name, value in about.items()],
        metrics=[Metric(name, value, started, 0) for name, value in metrics(record).items()],
    )
    client.set_terminated(run.info.run_id, STATUSES.get(record["status"], "FAILED"))


@hookimpl
def attnbench_run_ended(summary: dict[str, Any]) -> None:
    """Log the number of records by status, and end the run."""
    client: MlflowClient = current["client"]
    for status, count in summary.items():
        client.log_metric(current["parent"], f"cells_{status}", count)
    client.set_terminated(current["parent"])


def _tracking_uri() -> str | None:
    """Return the tracking URI; None is MLflow's default.

    Without MLFLOW_TRACKING_URI and without a database package this is the folder `mlruns`. MLflow accepts a folder only
    if MLFLOW_ALLOW_FILE_STORE is set.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or (
        None if find_spec("sqlalchemy") else (Path.cwd() / "mlruns").as_uri()
    )
    if uri is not None and (uri.startswith("file:") or "://" not in uri):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return uri
