"""Read large files that an attacker could publish, each in a process of its own, and print what each reader needed.

`python large_files.py FOLDER` prints one line of JSON for each file: the case, whether the reader returned or raised an
error of attnbench, the message, the CPU time in s, the peak memory in bytes, and the signal that ended the process.
"""

import json
import os
import resource
import sys
from pathlib import Path

import synthetic
from attnbench.analysis.digest import digest
from attnbench.analysis.dispatch_table import read_table
from attnbench.errors import AttnbenchError
from attnbench.messages import decode_answer
from attnbench.plan import catalog
from attnbench.plugins.loading import PluginSource, entry_point_sources, with_siblings
from attnbench.report.importing import import_pytest_benchmark
from attnbench.store import list_runs, read_manifest
from attnbench.workloads.suite import read_suite

SIZE = 10_000_000  # in bytes, of each file
CPU_S, MEMORY_BYTES = 10, 1 << 30
NESTED = b"[" * SIZE
GRID = b'name = "m"\n[[grid]]\nheads = 1\nhead_dim = 8\n'
BENCHMARK = {"name": "t", "params": {"heads": 1, "seq": 16, "head_dim": 8}, "stats": {"data": [1e-3]}}
SOURCE = PluginSource("p", "file", "p.py")


def repeated(part):
    """Return `part` repeated up to SIZE bytes."""
    return part * (SIZE // len(part))


def listed(part, before=b"[", after=b"]"):
    """Return a JSON list of `part`, of SIZE bytes, between two texts."""
    return before + b",".join([part] * (SIZE // (len(part) + 1))) + after


def run_with(folder, *, records=b"", manifest=None):
    """Write a small valid run, append to its records, and replace its manifest."""
    cells = synthetic.workloads(seqs=(512,), masks=("none",), directions=("forward",))
    run = synthetic.make_run(folder, name="r", variants=("naive", "sdpa"), cells=cells, rounds=4)
    with (run / "records-cpu-0.jsonl").open("ab") as file:
        file.write(records)
    if manifest is not None:
        (run / "manifest.json").write_bytes(manifest)
    return run


def of_records(records):
    """Return a function that reads a run with these bytes after its valid records."""
    return lambda folder: digest(run_with(folder, records=records))


def of_manifest(manifest):
    """Return a function that lists and reads a run whose manifest has these bytes."""

    def read(folder):
        run = run_with(folder, manifest=manifest)
        list_runs(folder)
        read_manifest(run)
        digest(run)

    return read


def of_file(read, content, name="file.json"):
    """Return a function that writes a file and reads it with `read`."""

    def written(folder):
        (folder / name).write_bytes(content)
        return read(folder / name)

    return written


def imported(path):
    """Import a pytest-benchmark file."""
    return import_pytest_benchmark(path, path.parent / "results", "r")


def described(path):
    """Read a cached description of a plugin."""
    cache = catalog._Cache()
    cache._path = lambda _: path
    return cache.get(SOURCE)


def installed(path):
    """Read the entry points of a distribution whose file of entry points is `path`."""
    info = path.parent / "hostile-1.dist-info"
    info.mkdir()
    path.rename(info / "entry_points.txt")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1\n")
    sys.path.insert(0, str(path.parent))
    return entry_point_sources()


def answered(path):
    """Decode an answer of a worker."""
    return decode_answer(path.read_bytes(), "")


def valid_record():
    """Return the fields of a valid record."""
    return json.loads(
        synthetic._record(Path("r"), "sdpa", synthetic.workloads()[0], synthetic.CPU, control=False).to_line()
    )


def with_samples():
    """Return a record with as many samples and blocks as fit into the file."""
    count = SIZE // 7
    fields = {**valid_record(), "status": "ok", "samples_ns": [1] * count, "block_sizes": [1] * count}
    return json.dumps({**fields, "block_rounds": [0] * count}, separators=(",", ":")).encode() + b"\n"


CASES = {
    "records that are not JSON": lambda: of_records(repeated(b"x\n")),
    "records that are empty objects": lambda: of_records(repeated(b"{}\n")),
    "a record nested deeply": lambda: of_records(NESTED),
    "a record with millions of samples": lambda: of_records(with_samples()),
    "a manifest of empty cells": lambda: of_manifest(listed(b"{}", b'{"plan":[', b"]}")),
    "a manifest nested deeply": lambda: of_manifest(NESTED),
    "a suite of comments": lambda: of_file(read_suite, GRID + repeated(b"# c\n")),
    "a suite with many lines before an error": lambda: of_file(
        read_suite, GRID + b"seq = 1\n" * 1 + (b"#\n" * 100_000) + b"sec = 1\n"
    ),
    "a suite with a value of many lines": lambda: of_file(
        read_suite, GRID + b"seq = [\n" + b"1,\n" * 60_000 + b"]\nsec = 1\n"
    ),
    "a suite with many statements": lambda: of_file(
        read_suite, GRID + b"".join(b"k%d = 0\n" % i for i in range(20_000))
    ),
    "a suite with too many combinations": lambda: of_file(
        read_suite,
        GRID
        + b"".join(
            b"%s = [%s]\n" % (axis, b",".join(b"%d" % i for i in range(1, 2000)))
            for axis in (b"batch", b"seq", b"kv_heads")
        ),
    ),
    "a suite with the most workloads": lambda: of_file(
        read_suite, GRID + b"seq = [%s]\n" % b",".join(b"%d" % i for i in range(1, 10_001))
    ),
    "a suite nested deeply": lambda: of_file(read_suite, b"a = " + b"[" * 100_000),
    "an import of many benchmarks": lambda: of_file(
        imported, listed(json.dumps(BENCHMARK).encode(), b'{"benchmarks":[', b"]}")
    ),
    "an import of empty benchmarks": lambda: of_file(imported, listed(b"{}", b'{"benchmarks":[', b"]}")),
    "an import of many samples": lambda: of_file(
        imported,
        listed(
            b"1", b'{"benchmarks":[{"name":"t","params":{"heads":1,"seq":16,"head_dim":8},"stats":{"data":[', b"]}}]}"
        ),
    ),
    "a dispatch table of empty regions": lambda: of_file(read_table, listed(b"{}", b'{"schema":1,"regions":[', b"]}")),
    "a dispatch table nested deeply": lambda: of_file(read_table, NESTED),
    "a plugin's description nested deeply": lambda: of_file(described, NESTED),
    "a plugin's description of empty plugins": lambda: of_file(described, listed(b"{}")),
    "a distribution with many entry points": lambda: of_file(
        installed, b"[attnbench]\n" + b"".join(b"n%d = m%d\n" % (i, i) for i in range(SIZE // 600))
    ),
    "a plugin's source nested deeply": lambda: of_file(with_siblings, NESTED, "p.py"),
    "an answer nested deeply": lambda: of_file(answered, NESTED),
}


def attempt(case, folder):
    """Read the case's file in this process, with limits, and return what happened."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
    try:
        CASES[case]()(folder)
    except AttnbenchError as error:
        return {"error": str(error)}
    except Exception as error:  # noqa: BLE001 - the test reports it
        return {"unexpected": repr(error)[:500]}
    return {}


def main(folder):
    """Read each case in a forked process and print one line for each."""
    for number, case in enumerate(CASES):
        place = Path(folder) / str(number)
        place.mkdir()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, json.dumps(attempt(case, place)).encode()[:60_000])
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        _, status, used = os.wait4(child, 0)
        facts = {"case": case, "cpu_s": used.ru_utime + used.ru_stime, "memory_bytes": used.ru_maxrss * 1024}
        ended = os.waitstatus_to_exitcode(status)
        print(json.dumps({**facts, "ended": ended, **(json.loads(told) if told else {})}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
