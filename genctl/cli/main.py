"""The `genctl` command: its commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import typer

from genctl import __version__
from genctl.asked import every_option, keywords
from genctl.cli import codes, distill, evaluate, flags, interpolate, models, plot, sample, say, train
from genctl.errors import GenctlError, PipeClosedError, out_of_memory
from genctl.text import cut


def version(value: bool) -> None:
    if value:
        print(f"genctl {__version__}")
        raise typer.Exit


def options(
    version: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error (also after a command)."),
) -> None:
    """Options of every command."""


SETTINGS = {  # options of other trainers, and the settings that they are here
    "--lr": "; here --set train.learning_rate=1e-3", "--learning-rate": "; here --set train.learning_rate=1e-3",
    "--batch": "; here --set train.batch=32", "--batch-size": "; here --set train.batch=32",
    "--epochs": "; here --steps N or --minutes M (an epoch is as many steps as there are batches of pictures)",
    "--resolution": "; here --set model.pixels=192x128 (width x height)", "--size": "; here --set model.pixels=192x128",
    "--train-batch-size": "; here --set train.batch=32", "--mixed-precision": "; here --set train.precision=bf16",
    "--gradient-accumulation-steps": "; here --set train.parts=4",
    "--resume": "; the same command again resumes",
}  # fmt: skip
COMMANDS: dict[str, Callable[..., None]] = {
    "sample": sample.sample, "train": train.train, "distill": distill.distill,
    "interpolate": interpolate.interpolate, "encode": codes.encode, "decode": codes.decode,
    "models": models.models, "info": models.info, "eval": evaluate.evaluate,
}  # fmt: skip


def app() -> typer.Typer:
    """All commands, with the flags of the families that are registered now."""
    made = typer.Typer(
        name="genctl",
        help="Generative image models: train, sample, interpolate, encode and decode, all by the same few commands.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(options)
    for name, command in COMMANDS.items():
        made.command(name)(flags.made(command))
    made.add_typer(plot.app, name="plot")
    return made


def execute(arguments: list[str]) -> int:
    """Run the command line and return its exit code; errors are printed as one line on stderr."""
    # torch without numpy, which nothing here needs, says so in two lines at its first use
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        result = command_line(arguments).main(arguments, prog_name="genctl", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        return ended("interrupted", 130) if code == 130 else code  # Typer turns Ctrl-C into this code
    except KeyboardInterrupt:
        return ended("interrupted", 130)
    except SystemExit as error:  # Typer's way with a pipe that closed while it printed
        return 0 if error.code == 1 else int(error.code or 0)
    except PipeClosedError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the final flush would fail again
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        return explain(error)


def command_line(arguments: list[str]) -> Any:
    """The commands; of `sample --model NAME --help` with the options that this model takes alone."""
    made: Any = typer.main.get_command(app())
    if {"-h", "--help"} & set(arguments) and arguments[0] in ("sample", "interpolate") and "--model" in arguments[:-1]:
        try:
            shown = flags.taken(arguments[arguments.index("--model") + 1])
        except GenctlError:
            return made
        for parameter in made.commands[arguments[0]].params:
            parameter.hidden |= parameter.name in every_option() and parameter.name not in shown
    return made


def explain(error: Exception) -> int:
    """Print an error as one line and return its exit code."""
    if isinstance(error, GenctlError):
        return ended(str(error), error.exit_code)
    if hasattr(error, "exit_code"):  # Typer's own, whose classes have moved between its versions
        if not hasattr(error, "format_message"):
            return int(error.exit_code)  # Exit, after --help or --version
        message = " ".join(error.format_message().split()) + hint(error)
        return ended(message[:1].lower() + message[1:].rstrip("."), 2) if message else 2
    if type(error).__name__ == "Abort":
        return 130
    if out_of_memory(error):
        return ended(f"out of memory ({str(error)[:120]}); try a smaller --batch, -n, or --set train.batch=...", 5)
    if isinstance(error, OSError):
        return ended(f"{error.filename or 'system'}: {error.strerror or error}", 5)
    return ended(f"a fault of genctl: {type(error).__name__}: {str(error)[:200]}; --debug shows where", 1)


def hint(error: Any) -> str:
    """What an unknown option is called here, where it is another tool's name."""
    name = getattr(error, "option_name", None) or ""
    if getattr(getattr(error, "ctx", None), "info_name", "") in ("train", "distill"):
        return SETTINGS.get(name, "")
    known = keywords().get(name.lstrip("-").replace("-", "_"))
    return f"; here {known.flags[0]}" if known and known.flags[0] != name else ""


def ended(message: str, code: int) -> int:
    """One line on stderr, and the exit code."""
    say.note(cut(f"genctl: {' '.join(message.split())}"))
    return code


def run() -> None:
    """The process's whole work. Leaves without the interpreter's slow farewell once everything is flushed."""
    say.open_streams()
    code = execute(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    os._exit(code)
