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

from tunesmith.errors import APIResponseValidationError, TunesmithError

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
    try:
        arguments = build_parser().parse_args(argv)
        return arguments.handler(arguments)  # type: ignore[no-any-return] # a Namespace is untyped
    except SystemExit as error:  # argparse: help was shown, or the usage was wrong
        return error.code if isinstance(error.code, int) else 1
    except TunesmithError as error:
        print_error(f"{error}{_hint(error)}")
        return 1
    except KeyboardInterrupt:
        print_error("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output, such as `head`, has closed it: nothing is wrong here.
        # stdout is replaced so that the interpreter's own flush at exit does not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a file or a folder that the user named cannot be used
        place = f"{error.filename}: " if error.filename else ""
        print_error(f"{place}{error.strerror or error}.")
        return 1


def _hint(error: TunesmithError) -> str:
    """Return a hint where the answer was a web page: the URL probably lacks its path."""
    is_html = isinstance(error, APIResponseValidationError) and "<html" in str(error).lower()
    return " Does the address lack its /v1?" if is_html else ""
