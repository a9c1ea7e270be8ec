"""Find the sources of plugins, and load plugins so that every exception they raise becomes a PluginError.

Finding a source does not import the plugin. Loading a plugin runs its code, so only worker processes load plugins.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from attnbench import hookspecs
from attnbench.errors import AttnbenchError, PluginError, UsageError, describe, unknown
from attnbench.plugins.variant import contract_violation
from attnbench.workloads.suite import Suite, parse_suite

if TYPE_CHECKING:
    from attnbench.plugins.variant import Variant

GROUP = "attnbench"
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("attnbench_"))


@dataclass(frozen=True)
class PluginSource:
    """The source of a plugin: an entry point, a file or a module.

    `target` is the value of the entry point, the path of the file, or the name of the module.
    """

    name: str
    kind: str  # "entry point", "file" or "module"
    target: str
    origin: str = ""  # shown to users: a distribution and its version, a path, or a module name

    def to_json(self) -> dict[str, str]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin: its variants, its suites, the names of further modules, and a hash of its source code."""

    source: PluginSource
    sha256: str
    variants: tuple[Variant, ...]
    suites: tuple[Suite, ...]
    modules: tuple[str, ...]
    module: ModuleType
    hooks: pluggy.PluginManager  # a manager in which only this plugin is registered


def entry_point_sources() -> list[PluginSource]:
    """Return the sources of all entry points in the group `attnbench`, without importing any plugin.

    The sources are sorted by name, and their names are unique.
    """
    sources: list[PluginSource] = []
    found: set[tuple[str, str]] = set()
    taken: set[str] = set()
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else ""
        if (point.name, point.value) in found:
            continue  # Python found the same distribution twice on its path
        found.add((point.name, point.value))
        name = point.name if point.name not in taken else f"{point.name} ({origin or point.value})"
        taken.add(name)
        sources.append(PluginSource(name, "entry point", point.value, origin))
    return sources


def named_source(text: str) -> PluginSource:
    """Return the source of the plugin that a value of `--plugin` (FILE.py or package.module) names.

    Raises UsageError if there is no such file or module.
    """
    if text.endswith(".py") or "/" in text:
        path = Path(text).expanduser().resolve()
        if not path.is_file():
            raise UsageError(f"plugin file {text!r} does not exist: expected the path of a .py file, or package.module")
        return PluginSource(path.stem, "file", str(path), str(path))
    top = text.partition(".")[0]
    if not all(part.isidentifier() for part in text.split(".")) or importlib.util.find_spec(top) is None:
        raise UsageError(f"plugin {text!r} is neither an importable module nor the path of a .py file")
    return PluginSource(text, "module", text, text)


def source_files(source: PluginSource) -> list[Path]:
    """Return a plugin's source files without importing it: a single file, or all files of its top-level package."""
    if source.kind == "file":
        return [Path(source.target)]
    spec = importlib.util.find_spec(source.target.partition(":")[0].partition(".")[0])
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = [path for folder in folders for path in folder.rglob("*.py")]
    return sorted(found) or ([Path(spec.origin)] if spec.origin else [])


def load_plugin(source: PluginSource) -> Plugin:
    """Import a plugin and call its hooks for variants, suites and modules.

    Raises PluginError with a one-line reason if the plugin raises any exception, even SystemExit, or does not fulfil
    the plugin contract. A plugin can still crash the process.
    """
    try:
        module = _import(source)
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise _failure("import failed:", error) from error
    hooks = _registered_hooks(source, module)
    variants = tuple(_offered(hooks, "attnbench_variants"))
    suites = tuple(_offered(hooks, "attnbench_suites"))
    modules = tuple(str(name) for name in _offered(hooks, "attnbench_modules"))
    for candidate in variants:
        if problem := contract_violation(candidate):
            raise PluginError(problem)
    parsed = tuple(_parsed_suite(suite, source) for suite in suites)
    return Plugin(source, source_sha256(source), variants, parsed, modules, module, hooks)


def variant_of(source: PluginSource, name: str) -> Variant:
    """Load a plugin and return the variant with the given name. Raises PluginError if there is no such variant."""
    for candidate in load_plugin(source).variants:
        if candidate.name == name:
            return candidate
    raise PluginError(f"plugin {source.name} no longer offers variant {name!r}")


def load_all(
    sources: Iterable[PluginSource], skip: Mapping[str, PluginError]
) -> Iterator[tuple[PluginSource, Plugin | PluginError | None]]:
    """Load plugins one by one, yielding (source, None) before loading each plugin and (source, outcome) afterwards.

    The outcome is the plugin or, if it did not load, the error. A plugin named in `skip` is not loaded, and its outcome
    is the error in `skip`. If a plugin lists further modules, they are then loaded as separate plugins.
    """
    for source in sources:
        queue = [source]
        while queue:
            current = queue.pop(0)
            yield current, None
            if current.name in skip:
                yield current, skip[current.name]
                continue
            try:
                plugin = load_plugin(current)
            except PluginError as error:
                yield current, error
                continue
            yield current, plugin
            queue += [
                PluginSource(f"{source.name}/{name.rpartition('.')[2]}", "module", name, source.origin)
                for name in plugin.modules
            ]


def observes(plugin: Plugin, hook: str) -> bool:
    """Return whether a plugin implements the hook of the given name, e.g. `attnbench_record_stored`."""
    return bool(getattr(plugin.hooks.hook, hook).get_hookimpls())


def call_hook(hooks: pluggy.PluginManager, hook: str, *arguments: Any) -> list[Any]:
    """Call all implementations and wrappers of a hook through pluggy, and return the results."""
    caller = getattr(hooks.hook, hook)
    results: list[Any] = caller(**dict(zip(caller.spec.argnames, arguments, strict=True)))
    return results


def _import(source: PluginSource) -> ModuleType:
    if source.kind == "file":
        digest = hashlib.sha256(source.target.encode()).hexdigest()[:8]
        name = f"attnbench_plugin_{digest}_{source.name.replace('-', '_')}"
        spec = importlib.util.spec_from_file_location(name, source.target)
        if spec is None or spec.loader is None:
            raise PluginError(f"{source.target} can't be imported: expected a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickle look up the module by name
        spec.loader.exec_module(module)
        return module
    target, _, attribute = source.target.partition(":")
    module = importlib.import_module(target)
    return getattr(module, attribute) if attribute else module


def _registered_hooks(source: PluginSource, module: ModuleType) -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, name=source.name)
    except pluggy.PluginValidationError as error:
        raise PluginError(f"hook with a wrong signature: {' '.join(str(error).split())}") from error
    callers = manager.get_hookcallers(module) or []
    for caller in callers:
        if caller.spec is None:
            raise PluginError(str(unknown("hook", caller.name, HOOKS)))
        for implementation in caller.get_hookimpls():
            if implementation.kwargnames:
                raise PluginError(f"{caller.name}: arguments with defaults are not passed: remove the defaults")
    if not callers:
        raise PluginError(
            f"no hook found: {_missing_hook(module)}",
            "add a function attnbench_variants with the decorator @hookimpl to the file",
        )
    return manager


def _missing_hook(module: ModuleType) -> str:
    """Return why pluggy finds no hook in a module."""
    named = [name for name in dir(module) if name in HOOKS]
    if not named:
        return f"expected one of {', '.join(HOOKS)}"
    if not inspect.isroutine(getattr(module, named[0])):
        kind = type(getattr(module, named[0])).__name__
        return f"{named[0]} is an object of type {kind}: expected a function or method"
    return f"{named[0]} lacks the @hookimpl decorator"


def _offered(hooks: pluggy.PluginManager, hook: str) -> list[Any]:
    """Call a hook whose implementations return lists, and return the items of all lists.

    Raises PluginError if an implementation raises an exception or does not return a list.
    """
    try:
        results = call_hook(hooks, hook)
        offered = [item for result in results for item in result]
    except (Exception, SystemExit) as error:
        raise _failure(f"{hook} raised", error) from error
    if not results and getattr(hooks.hook, hook).get_hookimpls():  # pluggy drops results that are None
        raise PluginError(f"{hook} returned None: expected a list")
    return offered


def _parsed_suite(table: Any, source: PluginSource) -> Suite:
    try:
        return parse_suite(table, f"plugin {source.name}")
    except (AttnbenchError, AttributeError, TypeError) as error:
        raise PluginError(f"attnbench_suites: {describe(error)}") from error


def _failure(what: str, error: BaseException) -> PluginError:
    """Return a PluginError for an exception that a plugin raised. The remedy depends on the type of the exception."""
    reason = f"{what} {describe(error)}{_where(error)}"
    if isinstance(error, ModuleNotFoundError):
        return PluginError(
            reason,
            "install the package, or import it inside prepare and report a missing package in unsupported_reason",
        )
    return PluginError(reason)


def _where(error: BaseException) -> str:
    """Return the file and line in which an exception was raised, as ` (FILE:LINE)`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""


def source_sha256(source: PluginSource) -> str:
    """Return a hash of a plugin's source files. If an edit changes the hash, the plugin's cells become stale.

    The source files of an entry point are all files of its package. Those of a file or a module are the plugin's own
    file and the files in the same folder that it imports.
    """
    digest = hashlib.sha256()
    for path in sorted(_hashed_files(source)):
        with contextlib.suppress(OSError):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _hashed_files(source: PluginSource) -> Iterable[Path]:
    if source.kind == "file":
        return with_siblings(Path(source.target))
    spec = importlib.util.find_spec(source.target) if source.kind == "module" else None
    return with_siblings(Path(spec.origin)) if spec is not None and spec.origin else source_files(source)


def with_siblings(file: Path) -> set[Path]:
    """Return a plugin's file and the files in the same folder that it imports, directly or indirectly.

    The files are parsed but not run, so imports inside functions are found, too.
    """
    found: set[Path] = set()
    queue = [file]
    while queue:
        path = queue.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module or ''}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            queue += [path.parent / f"{name.rpartition('.')[2]}.py" for name in names if name]
    return found
