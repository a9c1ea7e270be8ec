"""Tests of device names and of the rule that only one module takes them apart."""

import ast
import re
from pathlib import Path

import pytest

from attnbench.device_names import device_index, device_type
from attnbench.errors import UsageError

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in ("harness", "variants", "tests/stand_ins")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.name != "device_names.py"
]
NAMES = {"device", "_device", "torch_name", "device_name"}  # variables and attributes that hold the name of a device
# Ways to take a name apart: the prefix, the part before the colon, and torch's own parser.
PARSERS = re.compile(
    r"""\.startswith\(\(?["'](cpu|cuda)|device\w*\.(r?partition|split)\(["']:|torch\.device\([^()"']+\)\.type"""
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cpu", ("cpu", None)),
        ("cpu:3", ("cpu", 3)),
        ("cpu:0+cpu:1", ("cpu", None)),
        ("cuda", ("cuda", None)),
        ("cuda:0", ("cuda", 0)),
        ("cuda:0+cuda:1", ("cuda", None)),
        ("cuda:H100", ("cuda", None)),
    ],
)
def test_a_name_gives_the_type_and_the_number(name, expected):
    """Every form of a device's name has the type that torch uses, and a single device may have a number."""
    assert (device_type(name), device_index(name)) == expected


@pytest.mark.parametrize("name", ["", "tpu", "mps:0", "cudax", "cpu:0+cuda:0", "cuda:0+"])
def test_other_names_are_refused(name):
    """A name of another type raises UsageError, which names the culprit and says what was expected."""
    with pytest.raises(UsageError, match=re.escape(f"device {name!r}: expected cpu, cuda or cuda:N")):
        device_type(name)


def name_comparisons(source):
    """Yield the lines that compare a variable or attribute in NAMES with a type of device.

    The argument of `unsupported_reason` is the type itself, so the comparisons in this method are left out.
    """
    tree = ast.parse(source)
    allowed = {
        inner
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name == "unsupported_reason"
        for inner in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and node not in allowed:
            sides = [node.left, *node.comparators]
            names = {getattr(side, "id", getattr(side, "attr", "")) for side in sides}
            types = {side.value for side in sides if isinstance(side, ast.Constant)}
            if names & NAMES and types & {"cpu", "cuda"}:
                yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        'on_cuda = device.startswith("cuda")',
        'kind = record.device.partition(":")[0]',
        "kind = torch.device(self._device).type",
    ],
)
def test_the_search_finds_each_way_to_take_a_name_apart(line):
    """The pattern of the next test matches each way in which a name could be taken apart."""
    assert PARSERS.search(line)


def test_the_search_finds_comparisons_of_names():
    """A comparison of a name with a type is found, but not in `unsupported_reason`, which receives the type."""
    method = "class V:\n    def unsupported_reason(self, workload, device):\n        return device == 'cpu'"
    assert list(name_comparisons("if subject.device != 'cuda':\n    pass")) == [1]
    assert list(name_comparisons("inputs.query.device.type == 'cuda'")) == []
    assert list(name_comparisons(method)) == []


def test_one_module_takes_device_names_apart():
    """Only device_names.py takes a device's name apart; other code asks it for the type.

    Then `cuda` and `cuda:0` are treated alike everywhere.
    """
    assert len(SOURCES) > 200
    found = []
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        numbers = [number for number, line in enumerate(lines, 1) if PARSERS.search(line)]
        if "variants/attnbench_variants" not in path.as_posix():  # a variant gets the type, and calls it `device`
            numbers += name_comparisons(source)
        found += [f"{path.relative_to(ROOT)}:{number}: {lines[number - 1].strip()}" for number in numbers]
    assert found == []
