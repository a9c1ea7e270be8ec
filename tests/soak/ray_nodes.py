"""Start a Ray cluster of several nodes on this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from process_samples import ROOT

from attnbench.cluster.ray import TYPE_LABEL

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TMPDIR": "/tmp",  # noqa: S108 - the paths of Ray's sockets must be short
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "harness", ROOT / "variants", Path(__file__).parent))),
}
TYPE = "core"  # the label of the nodes' type of device
STORE_BYTES = 100 * 1024 * 1024


@contextlib.contextmanager
def cluster(nodes: int) -> Iterator[object]:
    """Start a head that runs no tasks and this many nodes with one core each, and yield Ray's Cluster object."""
    from ray.cluster_utils import Cluster

    with mock.patch.dict(os.environ, SETTINGS):
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(nodes):
                started.add_node(num_cpus=1, labels={TYPE_LABEL: TYPE}, object_store_memory=STORE_BYTES)
            yield started
        finally:
            started.shutdown()
