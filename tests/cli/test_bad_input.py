"""Wrong usage is reported in one line that shows the wrong value or what was expected."""

import pytest

from command_line import attnbench


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run -v sdpaa", "unknown variant 'sdpaa': did you mean 'sdpa'?"),
        ("run -s quik", "unknown suite 'quik': did you mean 'quick'?"),
        ("run -s nowhere.toml", "nowhere.toml"),
        ("run --dtype bfloat61", "unknown dtype 'bfloat61': did you mean 'bfloat16'?"),
        ("run --mask casual", "unknown mask 'casual': did you mean 'causal'?"),
        ("run --direction backwards", "unknown direction 'backwards': did you mean 'backward'?"),
        ("run -d gpu", "device 'gpu': expected cpu, cuda or cuda:N"),
        ("run -d cuda:7", "device 'cuda:7' is not on this machine"),
        ("run --seq 0x10", "--seq '0x10': expected whole numbers"),
        ("run --heads -4", "heads is -4: expected a whole number of at least 1"),
        ("run --heads 0", "heads is 0: expected a whole number of at least 1"),
        ("run --batch 1.5", "--batch '1.5': expected whole numbers"),
        ("run --heads 8 --kv-heads 3", "heads must be a multiple of kv_heads"),
        ("run --precision 200%", "--precision '200%': expected a percentage"),
        ("run --budget -1", "budget_s is -1.0: expected a number above 0"),
        ("run -p nowhere.py", "plugin file 'nowhere.py' does not exist"),
        ("run --resume nowhere", "unknown run 'nowhere'"),
        ("run --sequence 5", "No such option: --sequence"),
        ("explain", "(attnbench explain --help lists all options)"),
        ("list variant", "unknown list 'variant': did you mean 'variants'?"),
        ("check", "no variant given"),
        ("check naive --quick --thorough", "can't be combined"),
        ("report nowhere", "unknown run 'nowhere'"),
        ("export", "no output file"),
        ("compare nowhere elsewhere", "unknown run 'nowhere'"),
        ("runn", "No such command 'runn'"),
    ],
)
def test_bad_usage_exits_2_with_one_line(arguments, message):
    """The exit code is 2, and the only output is one line with the expected message."""
    done = attnbench(*arguments.split())
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_an_unwritable_results_folder_is_a_usage_error(tmp_path):
    """If --results is a file, the command fails with a message that shows the path."""
    (tmp_path / "file").write_text("")
    done = attnbench("run", "-v", "naive", "--seq", "16", "--results", str(tmp_path / "file"))
    assert done.returncode == 2
    assert f"results folder '{tmp_path / 'file'}' can't be written" in done.stderr
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback():
    """With --debug, a usage error shows a traceback."""
    assert "Traceback" in attnbench("--debug", "run", "-v", "sdpaa").stderr


@pytest.mark.parametrize("arguments", ["--help", "--version", "run --help", "list suites", "list devices --json"])
def test_help_and_lists_print_to_standard_output(arguments):
    """Commands that print help, the version or a list exit with 0 and print nothing to standard error."""
    done = attnbench(*arguments.split())
    assert done.returncode == 0
    assert done.stdout
    assert not done.stderr


def test_a_dry_run_lists_supported_and_unsupported_cells(tmp_path):
    """A dry run prints every cell, with a reason for each unsupported one, and writes nothing."""
    done = attnbench(
        "run", "--dry-run", "-v", "naive,sdpa-cudnn", "-d", "cpu", "--seq", "16", "--results", str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert "1 cell to time, about " in done.stdout
    assert "1 more is unsupported here" in done.stdout
    assert "unsupported: this backend has no kernel for the CPU" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_workload_that_no_variant_supports_is_a_usage_error(tmp_path):
    """If no variant supports a workload in a suite file, the message shows file, line and reason, and nothing runs."""
    suite = tmp_path / "mine.toml"
    suite.write_text('name = "mine"\n[[grid]]\nheads = 1\nseq = 16\nhead_dim = 8\nsoftcap = 3.0\n')
    done = attnbench("run", "-s", str(suite), "-v", "sdpa", "-d", "cpu", "--results", str(tmp_path / "results"))
    assert done.returncode == 2, done.stdout
    assert f"{suite}:2: no variant can run b1-h1-s16-d8-float32-none-forward-softcap3.0" in done.stderr
    assert "scaled_dot_product_attention has no softcap" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("variants", ["sdpa-cudnn", "sdpa-cudnn,sdpa-efficient"])
def test_a_run_of_which_nothing_can_be_timed_is_a_usage_error(tmp_path, variants):
    """If no variant supports any workload, the message says why for each variant, and no run is left behind."""
    done = attnbench("run", "-v", variants, "-d", "cpu", "--seq", "16,32", "--results", str(tmp_path / "results"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("attnbench: nothing to time: sdpa-cudnn: this backend has no kernel for the CPU: it ")
    assert all(done.stderr.count(f"{name}: ") == 1 for name in variants.split(","))
    assert done.stderr.endswith("; choose other variants with --variant, or another device with --device\n")
    assert not (tmp_path / "results").exists()


def test_an_unknown_variant_points_to_a_plugin_file(tmp_path):
    """If a file in the current folder has the name of the unknown variant, the message shows how to load the file."""
    (tmp_path / "my_attn.py").write_text("")
    done = attnbench("check", "my-attn", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown variant 'my-attn'" in done.stderr
    assert "the current folder has my_attn.py: load it with --plugin my_attn.py" in done.stderr
