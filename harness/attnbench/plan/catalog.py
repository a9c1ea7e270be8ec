"""The catalog: the variants and suites that plugins offer.

Plugins are loaded in a worker process, so that a broken plugin can't crash the supervisor.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from attnbench import messages
from attnbench.atomic_write import write_atomically
from attnbench.errors import PluginError, UsageError
from attnbench.isolation.worker_process import isolated_query
from attnbench.messages import DescribeRequest, GridDescription, PluginNotice
from attnbench.plugins import loading, variant
from attnbench.plugins.loading import PluginSource, entry_point_sources, named_source, source_files
from attnbench.user_cache import cache_folder
from attnbench.workloads import suite
from attnbench.workloads.suite import Grid, Suite, choose_suites

IMPORT_TIMEOUT_S = 60.0
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # environment variables of a worker that must not use a GPU
CONTRACT_MODULES = (variant, suite, loading, messages)  # editing one of these invalidates the cached descriptions


@dataclass(frozen=True)
class VariantEntry:
    """A variant as its plugin describes it; see `attnbench.Variant` for the fields."""

    name: str
    plugin: str
    source: PluginSource
    sha256: str
    layout: str
    tier: str
    exact: bool
    default_on: tuple[str, ...]
    traits: tuple[str, ...]
    packages: tuple[str, ...]
    baseline: bool
    summary: str
    ranks: int = 1
    alignment_bytes: int = 1


@dataclass(frozen=True)
class PluginEntry:
    """A plugin and what it offers. If the plugin did not load, `reason` says why and `remedy` suggests a fix."""

    source: PluginSource
    reason: str | None
    remedy: str | None = None
    file: str | None = None
    variants: tuple[VariantEntry, ...] = ()
    suites: tuple[Suite, ...] = ()
    observes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """All plugins and the variants and suites that they offer."""

    plugins: tuple[PluginEntry, ...]

    @property
    def variants(self) -> dict[str, VariantEntry]:
        """The variants by name, in the order of their plugins."""
        return {variant.name: variant for plugin in self.plugins for variant in plugin.variants}

    @property
    def packages(self) -> tuple[str, ...]:
        """The names of the distributions that the variants declare, sorted."""
        return tuple(sorted({package for variant in self.variants.values() for package in variant.packages}))

    def with_baseline(self, baseline: str) -> Catalog:
        """Return a copy of the catalog in which the variant named `baseline` is the only baseline."""
        plugins = []
        for plugin in self.plugins:
            variants = (dataclasses.replace(entry, baseline=entry.name == baseline) for entry in plugin.variants)
            plugins.append(dataclasses.replace(plugin, variants=tuple(variants)))
        return Catalog(tuple(plugins))

    def suites(self, chosen: Sequence[str]) -> list[Suite]:
        """Return the suites with the given names or file paths.

        Raises UsageError if a suite is unknown or can't be read, or if two suites have the same name.
        """
        return choose_suites(
            chosen, ((plugin.source.name, suite) for plugin in self.plugins for suite in plugin.suites)
        )


def read_catalog(plugins: Sequence[str] = (), *, strict: bool = False) -> Catalog:
    """Return the catalog of the installed plugins and those given with `--plugin`.

    Raises UsageError if a plugin given with `--plugin` can't be found. With `strict`, also raises PluginError if any
    plugin does not load.
    """
    sources = _distinct([*entry_point_sources(), *(named_source(text) for text in plugins)])
    cache = _Cache()
    known = {source: found for source in sources if (found := cache.get(source)) is not None}
    fresh = _describe([source for source in sources if source not in known]) if len(known) < len(sources) else []
    for source in sources:
        if source not in known:
            known[source] = _of_source(fresh, source)
            cache.put(source, known[source])
    entries = _without_duplicates([_entry(description) for source in sources for description in known[source]])
    if strict and (failed := [entry for entry in entries if entry.reason]):
        raise PluginError(f"plugin {failed[0].source.name} did not load: {failed[0].reason}")
    return Catalog(tuple(entries))


def refuse_broken(catalog: Catalog, plugins: Sequence[str]) -> None:
    """Raise PluginError if a plugin that the user gave with `--plugin` did not load."""
    named = {named_source(text).target: text for text in plugins}
    for entry in catalog.plugins:
        if entry.reason and entry.source.target in named:
            raise PluginError(f"plugin {named[entry.source.target]} did not load: {entry.reason}; next: {entry.remedy}")


def _describe(sources: list[PluginSource]) -> list[PluginNotice]:
    deadline_s = float(os.environ.get("ATTNBENCH_IMPORT_TIMEOUT", IMPORT_TIMEOUT_S))
    request = DescribeRequest(sources)
    return isolated_query(request, PluginNotice, NO_GPU, deadline_s, needs_torch=False)[0]


def _of_source(described: Iterable[PluginNotice], source: PluginSource) -> list[PluginNotice]:
    return [
        description
        for description in described
        if description.source.name == source.name or description.source.name.startswith(f"{source.name}/")
    ]


def _entry(description: PluginNotice) -> PluginEntry:
    source = description.source
    if description.reason is not None:
        return PluginEntry(source, description.reason, description.remedy)
    variants = tuple(
        VariantEntry(plugin=source.name, source=source, sha256=description.sha256, **msgspec.structs.asdict(variant))
        for variant in description.variants
    )
    found = tuple(
        Suite(
            suite.name,
            suite.description,
            tuple(_grid(grid) for grid in suite.grids),
            suite.source,
            suite.budget_s,
            suite.frontier,
        )
        for suite in description.suites
    )
    return PluginEntry(
        source,
        None,
        file=description.file,
        variants=variants,
        suites=found,
        observes=tuple(description.observes),
    )


def _grid(description: GridDescription) -> Grid:
    return Grid(description.title, description.source, tuple(description.workloads))


def _without_duplicates(entries: list[PluginEntry]) -> list[PluginEntry]:
    """Return the entries, rejecting each plugin that offers a variant or a suite whose name is already taken.

    A name is taken if the plugin itself or an earlier plugin already offers a variant or a suite of that name. The
    entry of a rejected plugin has a reason instead of variants and suites.
    """
    taken: dict[tuple[str, str], PluginEntry] = {}
    kept = []
    for entry in entries:
        names = [("variant", variant.name) for variant in entry.variants] + [("suite", s.name) for s in entry.suites]
        clash = next((name for name in names if name in taken or names.count(name) > 1), None)
        if clash is None:
            taken.update(dict.fromkeys(names, entry))
            kept.append(entry)
            continue
        first, (kind, name) = taken.get(clash, entry), clash
        places = " and ".join(f"by {plugin.source.name} ({plugin.file})" for plugin in (first, entry))
        reason = f"{kind} {name!r} is offered twice, {places}: rename one of the two"
        kept.append(PluginEntry(entry.source, reason, "rename one of the two", entry.file))
    return kept


def _distinct(sources: Iterable[PluginSource]) -> list[PluginSource]:
    """Return the sources without duplicates. If two have the same name, the second name gets its target as a suffix."""
    kept: dict[str, PluginSource] = {}
    for source in sources:
        if all(other.target != source.target for other in kept.values()):
            name = source.name if source.name not in kept else f"{source.name} ({source.target})"
            kept[name] = dataclasses.replace(source, name=name)
    return list(kept.values())


class _Cache:
    """A cache of plugin descriptions. Descriptions of plugins that did not load are not cached.

    A cached description is used only as long as the sizes and modification times of the plugin's files stay the same.
    """

    def __init__(self) -> None:
        self._folder = cache_folder() / "plugins"

    def get(self, source: PluginSource) -> list[PluginNotice] | None:
        try:
            found = msgspec.json.decode(self._path(source).read_bytes(), type=list[PluginNotice])
            for description in found:
                _entry(description)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, TypeError, KeyError, UsageError):
            return None
        return found

    def put(self, source: PluginSource, descriptions: list[PluginNotice]) -> None:
        if not descriptions or any(description.reason is not None for description in descriptions):
            return
        path = self._path(source)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, msgspec.json.encode(descriptions))

    def _path(self, source: PluginSource) -> Path:
        """Return the cache file of a source. Its name is a hash of everything that could change the description."""
        digest = hashlib.sha256(json.dumps(source.to_json()).encode())
        contract = [Path(str(module.__file__)) for module in CONTRACT_MODULES]
        for path in [*source_files(source), *contract]:
            with contextlib.suppress(OSError):
                status = path.stat()
                digest.update(f"{path}:{status.st_size}:{status.st_mtime_ns}".encode())
        return self._folder / f"{digest.hexdigest()}.json"
