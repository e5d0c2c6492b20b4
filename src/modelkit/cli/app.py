"""The `modelkit` command. Only the chosen command's module is imported, so that `--help` and completion stay instant."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from modelkit import __version__

COMMANDS = {
    "quantize": "Store weights (and activations) in 8 bits or fewer.",
    "prune": "Remove channels, heads and branches, or set weights to zero.",
    "lowrank": "Replace layers by chains of narrower ones.",
    "recover": "Distil the original into the compressed model.",
    "bench": "Measure latency, memory, size and quality.",
    "compare": "Say which model is better, worse or the same; gates for CI.",
    "inspect": "Show layers, shapes, parameters, MACs and bytes.",
    "convert": "Change the file format; outputs are checked equal.",
    "passes": "Show the installed algorithms and their options.",
    "doctor": "Show what this machine can run, and what would make it faster.",
    "schema": "Print the JSON Schema of the report or of recipes.",
}


def build(chosen: str | None) -> typer.Typer:
    """The application with the `chosen` command in full and the others as names with a summary."""
    app = typer.Typer(
        name="modelkit",
        help="Make a model file smaller and faster, and prove that the result is better.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )
    app.callback()(_group)
    for name, summary in COMMANDS.items():
        run = importlib.import_module(f"modelkit.cli.{name}").command if name == chosen else _named(name)
        app.command(name, help=None if name == chosen else summary, short_help=summary)(run)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the contract's code."""
    from .exit import run_and_exit

    # numpy's threads spin for more work when theirs is done, on the cores that the runtimes then want. 2 to the 4th cycles is the
    # least that OpenBLAS takes; it reads this when it is loaded.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((word for word in words if not word.startswith("-")), None)
    run_and_exit(lambda: build(chosen)(args=words, prog_name="modelkit", standalone_mode=False), verbose=_asks_verbose(words))


def _asks_verbose(words: Sequence[str]) -> bool:
    return "--verbose" in words or "-v" in words


def _named(name: str) -> Callable[[], None]:
    def stand_in() -> None:
        raise AssertionError(f"{name} was not chosen")  # a stand-in is only listed, never run

    return stand_in


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"modelkit {__version__}")
        raise typer.Exit


def _group(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> Any:
    pass
