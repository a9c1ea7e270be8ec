"""Write runs that an attacker could publish. Each run is a different kind of attack on the commands that read it."""

import copy
import json
import os
from pathlib import Path

import synthetic

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b31m\u202ereversed\u0007"
SCRIPT = "<script>alert('owned')</script><img src=x onerror=alert('owned')>"
MARKUP = "[link=file:///etc/passwd]x[/link] ${jndi:x} {{7*7}} =cmd|' /C calc'!A0 | a | `b` \\input{/etc/passwd}"
TRAVERSAL = "../../../../etc/passwd"
NAMES = (ESCAPE, "</script>" + SCRIPT, MARKUP + "\x00\ud800\r\n", TRAVERSAL + "a" * 900, "")
FIGURE_FIELDS = ("device_name", "environment_id", "mode")  # each distinct value adds a figure, which takes time to draw

TEXT_FIELDS = ("variant", "plugin", "device", "device_name", "environment_id", "reason", "mode", "phase", "started_at")


def make(folder, secret):
    """Write all hostile runs into `folder` and return their paths. Some runs refer to the file `secret`."""
    return [
        *(write(folder) for write in (_lines, _numbers, _manifests, _plugin)),
        _links(folder, secret),
        *make_subset(folder, secret),
    ]


def make_subset(folder, secret):
    """Write only two of the hostile runs, for tests that take a long time per run, and return their paths."""
    return [_names(folder), _logs(folder, secret)]


def _base(folder, name):
    cells = synthetic.workloads(seqs=(512, 1024), masks=("none",), directions=("forward",))
    return synthetic.make_run(folder, name=name, variants=("naive", "sdpa"), cells=cells, rounds=4)


def _records(run):
    path = next(run.glob("records-*.jsonl"))
    return path, [json.loads(line) for line in path.read_text().splitlines()]


def _append(run, *lines):
    with next(run.glob("records-*.jsonl")).open("ab") as file:
        for line in lines:
            file.write(line if isinstance(line, bytes) else json.dumps(line).encode())
            file.write(b"\n")


def _names(folder):
    """Write a run with scripts, escape sequences and paths in the strings of its records and manifest."""
    run = _base(folder, "names")
    _, records = _records(run)
    for index, name in enumerate(NAMES):
        for field in TEXT_FIELDS if index < 2 else set(TEXT_FIELDS) - set(FIGURE_FIELDS):
            _append(run, {**records[0], field: name, "record_id": f"{index}-{field}"})
        _append(
            run, {**records[0], "flags": [name], "kernels": [name], "telemetry": {name: name}, "error": {name: name}}
        )
    manifest = json.loads((run / "manifest.json").read_text())
    manifest |= {"run_id": SCRIPT, "machine": {SCRIPT: ESCAPE, "host": ESCAPE}, "started_at": ESCAPE}
    manifest["environments"] = {ESCAPE: {"device_name": SCRIPT, "packages": {"torch": SCRIPT, "attnbench": ESCAPE}}}
    manifest["summary"] = {"statuses": {ESCAPE: 1, SCRIPT: ESCAPE}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def _lines(folder):
    """Write a run with malformed or extreme lines: deep nesting, binary data, wrong types and huge strings."""
    run = _base(folder, "lines")
    _, records = _records(run)
    _append(run, b"[" * 100_000, b'{"a":' * 5_000, b"\xff\xfe\x00", b"null", b"[]", b'"x"', b"1" * 5_000, b"{", b"NaN")
    _append(run, {**records[0], "reason": "x" * 5_000_000}, {**records[0], "variant": "x" * 5_000_000})
    for field in records[0]:
        text = () if field in TEXT_FIELDS else ("x",)
        for value in ({}, [], [[]], *text, -1, True, None, {"a": {"b": []}}, 10**30, [1, "x"], [{}]):
            _append(run, {**copy.deepcopy(records[0]), field: value})
    for field in records[0]["workload"]:
        for value in (-5, "x", [], 10**30, *((2**62,) if field == "seq_q" else ())):
            _append(run, {**records[0], "workload": {**records[0]["workload"], field: value}})
    return run


def _numbers(folder):
    """Write a run whose numbers are at or beyond the limits of their valid ranges."""
    run = _base(folder, "numbers")
    _, records = _records(run)
    for value in ("1e999", "-1e999", "NaN", "Infinity", "5e-324", "1e308", "0", "-0.0", "9" * 400, "1e18", "1e-3"):
        text = json.dumps({**records[0], "samples_ns": ["@"], "block_sizes": [1], "block_rounds": [0]})
        _append(run, text.replace('"@"', value).encode())
        for field in (
            "peak_bytes",
            "flops",
            "bytes",
            "saved_bytes",
            "harness_bytes",
            "first_call_ns",
            "error",
            "telemetry",
        ):
            nested = {"error": {"worst_ratio": "@"}, "telemetry": {"blocks": [{"power_w": "@", "throttle": "@"}]}}
            _append(run, json.dumps({**records[0], field: nested.get(field, "@")}).replace('"@"', value).encode())
    return run


def _manifests(folder):
    """Write runs whose manifests are empty or deeply nested, or contain values of the wrong type."""
    wrong = (
        {}, [], "x", None, {"limits": []}, {"limits": {"cpu": {"float32": {"x": 1}}}}, {"environments": []},
        {"environments": {"cpu": []}}, {"summary": []}, {"summary": {"statuses": []}}, {"plan": 5}, {"plan": [[]]},
        {"protocols": 3}, {"machine": [SCRIPT]}, {"started_at": {"a": 1}}, {"doctor": SCRIPT}, {"plugins": {"a": []}},
        {"environments": {"cpu": {"packages": []}}}, {"plugin_arguments": {"a": 1}}, {"devices": 7}, {"frontier": 3},
    )  # fmt: skip
    for index, manifest in enumerate(wrong):
        run = _base(folder, f"manifest-{index}")
        (run / "manifest.json").write_text(json.dumps(manifest))
    deep = _base(folder, "manifest-deep")
    (deep / "manifest.json").write_text('{"a":' * 900 + "1" + "}" * 900)
    run = _base(folder, "manifest-flat")
    (run / "manifest.json").write_text("{}")
    return run


def _links(folder, secret):
    """Write a run that has links, a pipe and a folder in place of record files, and links in place of report files."""
    run = _base(folder, "links")
    (run / "records-link.jsonl").symlink_to(secret)
    (run / "records-zero.jsonl").symlink_to("/dev/zero")
    os.mkfifo(run / "records-pipe.jsonl")
    (run / "records-folder.jsonl").mkdir()
    (run / "report").mkdir()
    for name in ("index.html", "report.md", "results.csv", "results.parquet", "tables.tex"):
        (run / "report" / name).symlink_to(secret)
    (run / "report" / "figures").symlink_to(secret.parent)
    return run


def _logs(folder, secret):
    """Write a run with log paths that lead outside its folder, and a log that contains scripts and escape sequences."""
    run = _base(folder, "logs")
    _, records = _records(run)
    failed = {"status": "error", "samples_ns": [], "block_sizes": [], "block_rounds": [], "reason": SCRIPT}
    (run / "logs" / "link.log").symlink_to(secret)
    (run / "logs" / "evil.log").write_text(SCRIPT + ESCAPE)
    os.mkfifo(run / "logs" / "pipe.log")
    away = os.path.relpath(secret, run)
    for index, log in enumerate((str(secret), away, "logs/link.log", "logs/pipe.log", "logs/evil.log", "logs", "\x00")):
        _append(run, {**records[0], **failed, "variant": f"v{index}", "log": log})
    return run


def _plugin(folder):
    """Write a run whose manifest refers to a plugin file in the run's folder."""
    run = _base(folder, "plugin")
    mark = Path(folder).parent / "owned"
    (run / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["plugin_arguments"] = [str(run / "evil.py")]
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run
