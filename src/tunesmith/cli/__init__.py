"""The command line: a thin layer over the SDK, one module per group of commands.

Built on argparse, so that `pip install tunesmith` alone brings a working command;
rich, from an extra, only improves live views. A module registers its commands and
imports what they need only when one runs, so `tunesmith --help` is instant.

Exit codes: 0 success, 1 an error with a message, 2 wrong usage, 3 a followed job
ended `failed` or `cancelled`, 4 a requirement that the user set was not met, 5 an archive is
incomplete, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .output import print_error
from .parser import build_parser

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: Arguments without the program's name; default: those of the process.
    """
    code = _run(argv)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed it
        _discard_output()
    except OSError as error:
        _discard_output()
        return _fail(error)
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = build_parser().parse_args(argv)
        return arguments.handler(arguments)  # type: ignore[no-any-return] # a Namespace is untyped
    except SystemExit as error:  # argparse: help was shown, or the usage was wrong
        return error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        print_error("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return 0
    except Exception as error:  # noqa: BLE001 - a traceback helps nobody who types commands
        return _fail(error)


def _fail(error: Exception) -> int:
    from .failures import message_of

    print_error(message_of(error))
    return 1


def _discard_output() -> None:
    """Let stdout lead nowhere, so that the interpreter's own flush at exit does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
