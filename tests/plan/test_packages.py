"""The versions of the distributions that variants declare, which are part of cell ids and of environments."""

import json
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from attnbench.cli import main
from attnbench.cluster import node_task
from attnbench.plan import environment
from attnbench.runner.request import plan_of
from attnbench.runner.resume import resumed
from attnbench.store import read_manifest, read_run


@pytest.fixture
def install(monkeypatch):
    """Return a function that makes distributions named `fast-NAME` appear to be installed in given versions."""
    real = environment.version

    def set_versions(**versions):
        def version(package):
            if package.startswith("fast-"):
                if package.removeprefix("fast-") not in versions:
                    raise PackageNotFoundError(package)
                return versions[package.removeprefix("fast-")]
            return real(package)

        monkeypatch.setattr(environment, "version", version)

    return set_versions


@pytest.fixture
def declared(stubbed, monkeypatch):
    """Return stubbed runs with a variant alpha that declares fast-library and a variant beta that declares nothing."""
    monkeypatch.setenv("STUB_PACKAGES", json.dumps({"alpha": ["fast-library"]}))
    return stubbed


def ids(stubbed):
    """Return the id of each variant's cell in a new plan."""
    return {cell.variant.name: cell.cell_id for cell in plan_of(stubbed.request())[1].cells}


def test_an_upgrade_changes_the_ids_of_variants_that_declare_the_package(declared, install):
    """A new version of a package changes only the cell ids of variants that declare the package."""
    install()
    missing = ids(declared)
    install(library="1.0")
    before = ids(declared)
    install(library="1.1", unrelated="2.0")
    after = ids(declared)
    assert len({missing["alpha"], before["alpha"], after["alpha"]}) == 3
    assert missing["beta"] == before["beta"] == after["beta"]


def test_the_manifest_lists_the_versions_of_declared_packages(declared, install):
    """A run's environment contains the versions of declared packages, and the environment's id depends on them."""
    install(library="1.0")
    run, _ = declared.run("beta")
    described = read_manifest(run)["environments"]["cpu:0"]
    assert described["packages"]["fast-library"] == "1.0"
    assert {record.environment_id for record in read_run(run).records} == {described["environment_id"]}
    install(library="1.1")
    assert plan_of(declared.request())[1].environments["cpu:0"]["environment_id"] != described["environment_id"]


def test_resume_measures_a_variant_again_after_an_upgrade(declared, install):
    """After a package is upgraded, `--resume` measures only the variant that declares the package."""
    install(library="1.0")
    run, _ = declared.run()
    assert resumed(run)[1].cells == ()
    install(library="1.1")
    assert [cell.variant.name for cell in resumed(run)[1].cells] == ["alpha"]


def test_explain_names_the_package_and_both_versions(declared, install, monkeypatch, capsys):
    """After an upgrade, `attnbench explain` reports a stale record and names the package and both versions."""
    install(library="1.0")
    run, _ = declared.run()
    cells = {record.variant: record.cell_id for record in read_run(run).records}
    install(library="1.1")
    printed = {}
    for variant, cell in cells.items():
        monkeypatch.setattr(sys, "argv", ["attnbench", "explain", cell, "--results", str(run.parent)])
        with pytest.raises(SystemExit):
            main()
        printed[variant] = capsys.readouterr().out
    assert "stale: fast-library changed: it is 1.1, it was 1.0" in printed["alpha"]
    assert "stale" not in printed["beta"]


def test_on_a_cluster_the_version_of_the_node_that_measures_counts(declared, install):
    """On a cluster, a record's cell id depends on the package version on the node that measured the cell."""
    install(library="1.0")
    _, plan = plan_of(declared.request("alpha"))
    (cell,) = plan.cells
    order = {
        "run": "r",
        "plugins": [],
        "variants": {"alpha": cell.variant.sha256},
        "baselines": [],
        "workload": cell.workload.to_json(),
        "device": "cpu:any",
        "kind": "cpu",
        "protocol": plan.protocols["cpu"].to_json(),
        "cell_limits": {},
        "peak_dtypes": [],
    }
    planned = {record["cell_id"] for record in node_task.measure_group(order)["records"] if not record["control"]}
    assert planned == {cell.cell_id}
    assert node_task.describe_node({"plugins": []})["environments"]["cpu"]["packages"]["fast-library"] == "1.0"
    install(library="1.1")
    result = node_task.measure_group(order)
    assert result["environment"]["packages"]["fast-library"] == "1.1"
    assert {record["cell_id"] for record in result["records"]} == {ids(declared)["alpha"]} != planned
