"""How a command ends: its exit code, and errors as one sentence of what is wrong and one of what to do."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from modelkit.core.errors import ModelkitError

DONE, GATE_FAILED, UNUSABLE, UNDECIDED, INTERRUPTED = 0, 1, 2, 3, 130


def run_and_exit(command: Callable[[], Any], verbose: bool) -> NoReturn:
    """Run `command` and exit: 0, the code it asked for, 2 with a message on standard error, or 130."""
    try:
        code = command()
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else DONE)
    except ModelkitError as error:
        _fail(error.what, error.fix, verbose)
    except KeyboardInterrupt:
        _say("interrupted; nothing was written")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, but Python would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _fail("The disk is full.", "Free some space, or give another place with -o.", verbose)
        _fail(
            f"{error.strerror or error}: {error.filename or ''}".rstrip(": ") + ".",
            "Check the path and its permissions.",
            verbose,
        )
    except MemoryError:
        _fail(
            "There is not enough memory.",
            "Give fewer or smaller samples (--num-samples), or use a machine with more memory.",
            verbose,
        )
    except Exception as error:
        _from_command_line_parser(error, verbose)
        first_line = (str(error).splitlines() or [""])[0]
        _fail(
            f"modelkit failed in a way it should not ({type(error).__name__}: {first_line}).",
            "This is a bug: run again with --verbose and report what it prints.",
            verbose,
        )


def _from_command_line_parser(error: Exception, verbose: bool) -> None:
    """Typer's own exceptions: exits, aborts and usage errors."""
    if type(error).__name__ == "Exit":
        sys.exit(getattr(error, "exit_code", DONE))
    if type(error).__name__ == "Abort":
        _say("interrupted; nothing was written")
        sys.exit(INTERRUPTED)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(str(error) or getattr(error, "message", ""))
        sys.exit(UNUSABLE)
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "modelkit"
        _fail(error.format_message(), f"See `{path} --help`.", verbose)


def _fail(what: str, fix: str, verbose: bool) -> NoReturn:
    if verbose:
        traceback.print_exc()
    _say(f"error: {what}")
    _say(f"  help: {fix}")
    sys.exit(UNUSABLE)


def _say(line: str) -> None:
    print(" ".join(line.splitlines()), file=sys.stderr)
