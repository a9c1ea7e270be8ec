"""Detect stale records. A record is stale if something has changed that could affect the measured time of its cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnbench.device_names import device_type
from attnbench.errors import AttnbenchError, UsageError
from attnbench.measure_config import MeasureConfig
from attnbench.plan.catalog import read_catalog
from attnbench.plan.cells import cell_id, identity_packages
from attnbench.plan.devices import choose_devices
from attnbench.plan.environment import environment_of
from attnbench.store import plugin_arguments
from attnbench.untrusted import mapping

if TYPE_CHECKING:
    from attnbench.record import Record


def stale_reasons(record: Record, manifest: Mapping[str, Any]) -> list[str]:
    """Return one message for each change that makes a record stale, or an empty list if the record is not stale."""
    try:
        catalog = read_catalog(plugin_arguments(manifest))
    except AttnbenchError as error:
        return [str(error)]
    variant = catalog.variants.get(record.variant)
    if variant is None:
        return [f"variant {record.variant} is no longer offered by any plugin"]
    try:
        environment = environment_of(choose_devices([record.device])[0], catalog.packages)
    except UsageError as error:
        return [str(error)]
    then = mapping(mapping(manifest.get("environments")).get(record.device))
    found = []
    if variant.sha256 != record.plugin_sha256:
        found.append(_changed(f"plugin {variant.plugin}", record.plugin_sha256[:12], variant.sha256[:12]))
    found += [_changed("device", record.device_name, environment["device_name"])]
    found += [_changed("driver", then.get("driver"), environment["driver"])]
    for package in identity_packages(variant):
        found += [_changed(package, mapping(then.get("packages")).get(package), environment["packages"].get(package))]
    protocol = _protocol_of(record, manifest)
    if protocol is None or protocol.protocol_id != record.protocol_id:
        found.append("protocol changed: this version of attnbench measures differently")
    reasons = [reason for reason in found if reason]
    if not reasons and protocol and cell_id(variant, record.workload, protocol, environment) != record.cell_id:
        reasons.append("this version of attnbench computes cell ids differently")
    return reasons


def _protocol_of(record: Record, manifest: Mapping[str, Any]) -> MeasureConfig | None:
    try:
        return MeasureConfig.from_json(manifest["protocols"][device_type(record.device)])
    except (KeyError, TypeError, UsageError):
        return None


def _changed(what: str, then: object, now: object) -> str:
    return "" if then == now else f"{what} changed: it is {now or 'none'}, it was {then or 'none'}"
