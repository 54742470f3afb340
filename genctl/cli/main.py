"""The `genctl` command: its commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings

import typer

from genctl import __version__
from genctl.cli import codes, distill, evaluate, interpolate, models, plot, sample, train
from genctl.errors import GenctlError, PipeClosedError, out_of_memory

app = typer.Typer(
    name="genctl",
    help="Generative image models: train, sample, interpolate, encode and decode, all by the same few commands.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("sample")(sample.sample)
app.command("train")(train.train)
app.command("distill")(distill.distill)
app.command("interpolate")(interpolate.interpolate)
app.command("encode")(codes.encode)
app.command("decode")(codes.decode)
app.command("models")(models.models)
app.command("info")(models.info)
app.command("eval")(evaluate.evaluate)
app.add_typer(plot.app, name="plot")


def version(value: bool) -> None:
    if value:
        print(f"genctl {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error (also after a command)."),
) -> None:
    """Options of every command."""


def execute(arguments: list[str]) -> int:
    """Run the command line and return its exit code; errors are printed as one line on stderr."""
    # torch without numpy, which nothing here needs, says so in two lines at its first use
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        result = typer.main.get_command(app).main(arguments, prog_name="genctl", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        return say("interrupted", 130) if code == 130 else code  # Typer turns Ctrl-C into this code
    except KeyboardInterrupt:
        return say("interrupted", 130)
    except SystemExit as error:  # Typer's way with a pipe that closed while it printed
        return 0 if error.code == 1 else int(error.code or 0)
    except PipeClosedError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the final flush would fail again
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        return explain(error)


def explain(error: Exception) -> int:
    """Print an error as one line and return its exit code."""
    if isinstance(error, GenctlError):
        return say(str(error), error.exit_code)
    if hasattr(error, "exit_code"):  # Typer's own, whose classes have moved between its versions
        if not hasattr(error, "format_message"):
            return int(error.exit_code)  # Exit, after --help or --version
        message = " ".join(error.format_message().split())
        return say(message[:1].lower() + message[1:].rstrip("."), 2) if message else 2
    if type(error).__name__ == "Abort":
        return 130
    if out_of_memory(error):
        return say(f"out of memory ({str(error)[:120]}); try a smaller --batch, -n, or --set train.batch=...", 5)
    if isinstance(error, OSError):
        return say(f"{error.filename or 'system'}: {error.strerror or error}", 5)
    return say(f"a fault of genctl: {type(error).__name__}: {str(error)[:200]}; --debug shows where", 1)


def say(message: str, code: int) -> int:
    print(f"genctl: {message}", file=sys.stderr)
    return code


def run() -> None:
    """The process's whole work. Leaves without the interpreter's slow farewell once everything is flushed."""
    code = execute(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    os._exit(code)
