"""The `attnbench` program: its commands and its error handling."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from attnbench import __version__, interrupts
from attnbench.cli.best import best
from attnbench.cli.check import check
from attnbench.cli.compare import compare
from attnbench.cli.devices import devices
from attnbench.cli.doctor import doctor
from attnbench.cli.examples import epilog
from attnbench.cli.explain import explain
from attnbench.cli.export import export
from attnbench.cli.import_ import import_
from attnbench.cli.list_ import list_
from attnbench.cli.new import new
from attnbench.cli.publish import publish
from attnbench.cli.report import report
from attnbench.cli.run import run
from attnbench.cli.study import study
from attnbench.cli.verify import verify
from attnbench.errors import AttnbenchError, UsageError, describe
from attnbench.untrusted import printable

BUG = "this is a bug in attnbench: run again with --debug for a traceback"
# What the user can do about errors of the operating system that are no bugs.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some disk space, or use a folder on another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make it writable, or use another folder"),
    errno.EIO: "the disk or the terminal can't be read or written",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files, with `ulimit -n`"),
    **dict.fromkeys((errno.EAGAIN, errno.ENOMEM), "the machine lacks memory, or a limit on processes is too low"),
}
MAX_MESSAGE_LENGTH = 4_000  # in characters; a message may quote a value of any length

app = typer.Typer(
    help="Check implementations of attention, time the correct ones, and report the results.",
    rich_markup_mode=None,  # plain help is just as readable and is printed in half the time
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"attnbench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback if a command fails.")] = False,
) -> None:
    """Handle the options that precede a command."""


COMMANDS = (
    *(run, check, list_, devices, explain),
    *(report, compare, best, export),
    *(import_, publish, verify),
    *(new, doctor, study),
)
for command in COMMANDS:
    name = command.__name__.strip("_")
    summary = (command.__doc__ or "").partition("\n")[0]
    app.command(name=name, short_help=summary, epilog=epilog(name))(command)


def main() -> None:
    """Run the command line and exit the process.

    The exit code is 0 on success, 1 if a cell or a test failed or an error occurred, 2 for wrong usage, and 128 and the
    signal's number if a signal ended the command (130 after Ctrl-C).
    """
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        with interrupts.raised():
            code = app(args=arguments or ["--help"], prog_name="attnbench", standalone_mode=False)
    except typer.Exit as exited:
        code = exited.exit_code
    except TyperException as error:
        code = _fail(_one_line(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail("interrupted", 130)
    except interrupts.EndedBySignal as ended:
        code = _fail("interrupted", interrupts.exit_code(ended.number))
    except AttnbenchError as error:
        if debug:
            raise
        code = _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except Exception as error:
        if debug:
            raise
        code = _fail(f"{describe(error)} ({_remedy(error)})", 1)
    sys.exit(code)


def _remedy(error: Exception) -> str:
    """Return what the user can do about an unexpected error. An operation that the system refused is no bug."""
    return REMEDIES.get(error.errno or 0, BUG) if isinstance(error, OSError) else BUG


def _one_line(error: TyperException) -> str:
    """Return the parser's error message as one line that also says how to show the command's help."""
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return f"{message} ({context.command_path if context else 'attnbench'} --help lists all options)"


def _fail(message: str, code: int) -> int:
    shown = printable(message[: MAX_MESSAGE_LENGTH + 1])
    if len(shown) > MAX_MESSAGE_LENGTH:
        shown = f"{shown[:MAX_MESSAGE_LENGTH]}..."
    typer.echo(f"attnbench: {shown}", err=True)
    return code
