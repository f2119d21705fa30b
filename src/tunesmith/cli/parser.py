"""The root parser, its options, and what every command has in common."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from tunesmith._version import __version__

from .options import add_connection_options
from .output import print_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import NoReturn

    Handler = Callable[[argparse.Namespace], int]
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name # pyright: ignore[reportPrivateUsage]

__all__ = ["add_command", "add_group", "build_parser"]

# The modules that register commands, in the order of `tunesmith --help`.
MODULES = (
    "tunesmith.quickstart.command",
    "tunesmith.cli.serve",
    "tunesmith.cli.status",
    "tunesmith.cli.base_models",
    "tunesmith.cli.transfer",
    "tunesmith.cli.keys",
    "tunesmith.cli.engine_state",
    "tunesmith.cli.tools",
    "tunesmith.cli.api",
    "tunesmith.cli.migrate",
    "tunesmith.cli.trackers",
    "tunesmith.cli.shell_completion",
)

# What other tools call it.
_OTHER_WORDS = {
    "train": "tunesmith api fine_tuning.jobs.create",
    "finetune": "tunesmith api fine_tuning.jobs.create",
    "fine-tune": "tunesmith api fine_tuning.jobs.create",
    "upload": "tunesmith api files.create",
    "chat": "tunesmith api chat.completions.create",
    "complete": "tunesmith api completions.create",
    "run": "tunesmith serve",
    "start": "tunesmith serve",
    "validate": "tunesmith tools check",
}

EXAMPLES = """\
examples:
  tunesmith quickstart                                   the whole workflow on real data
  tunesmith serve                                        train and serve on this machine
  tunesmith tools fine_tunes.prepare_data -f data.csv    check and convert training data
  tunesmith api fine_tunes.create -t data_prepared.jsonl -m ada
  tunesmith api completions.create -m MODEL -p "Hello ->"

environment:
  TUNESMITH_BASE_URL, OPENAI_BASE_URL   where `api` commands send requests
  TUNESMITH_API_KEY, OPENAI_API_KEY     the key they send
  TUNESMITH_HOME                        where the engine keeps its state

exit codes:
  0 success   1 error   2 wrong usage   3 the job failed or was cancelled
  4 a requirement was not met   5 an archive is incomplete   130 interrupted
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    parser = _Parser(
        prog="tunesmith",
        description="Fine-tune language models through the OpenAI-style API, on your own machine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=_help_of(parser))
    parser.add_argument("-V", "--version", action=_PrintVersion, help="print the version")
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="log requests and retries to stderr"
    )
    add_connection_options(parser, short=True)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name in MODULES:
        importlib.import_module(name).register(commands)
    return parser


def add_group(commands: Commands, name: str, summary: str) -> Commands:
    """Add a command that only holds further commands; alone it prints its help."""
    parser = commands.add_parser(name, help=summary, description=f"{summary}.")
    parser.set_defaults(handler=_help_of(parser))
    return parser.add_subparsers(title="commands", metavar="COMMAND")


def add_command(
    commands: Commands,
    name: str,
    handler: Handler,
    summary: str,
    example: str,
    *,
    aliases: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """Add a command that does something.

    Args:
        commands: Where to add it.
        name: Its name.
        handler: What it does; returns the exit code.
        summary: One line, without a full stop, for the list of commands.
        example: A command line, or several, that work as they stand.
        aliases: Older spellings.
    """
    parser = commands.add_parser(
        name,
        aliases=list(aliases),
        help=summary,
        description=f"{summary}.",
        epilog="example:\n" + "\n".join(f"  {line}" for line in example.splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler)
    return parser


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in one paragraph, with an example instead of every option.

    An option has to be written out: an abbreviation may become another option one day.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(  # type: ignore[override] # overloaded there
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; what is left over is an error here, where the command's options are known."""
        found, left = super().parse_known_args(args, namespace or argparse.Namespace())
        if left:
            self.error(self._unexpected(left))
        return found, left

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Convert an argument; one that has to be there may not be empty."""
        is_needed = action.required or not action.option_strings
        is_command = isinstance(action, argparse._SubParsersAction)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        if not arg_string and is_needed and not is_command:
            raise argparse.ArgumentError(action, "it is empty; perhaps a variable of your shell is")
        if any("\ud800" <= character <= "\udfff" for character in arg_string) and not (
            os.path.lexists(arg_string)  # the name of a file may be any bytes
        ):
            raise argparse.ArgumentError(action, f"{arg_string!a} is no text in UTF-8")
        return super()._get_value(action, arg_string)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help; argparse would swallow what prevents it."""
        print(message, end="", file=file or sys.stderr)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and a correct example; exit with code 2."""
        print_error(f"{_plain(message)} See `{self.prog} --help`.")
        if (self.epilog or "").startswith("example:"):
            print(self.epilog, file=sys.stderr)
        self.exit(2)

    def _unexpected(self, arguments: list[str]) -> str:
        option = next((one.partition("=")[0] for one in arguments if one.startswith("-")), None)
        if option is None:
            return f"{arguments[0]!r} is one argument too many for `{self.prog}`"
        close = _closest(option, _options(self))
        if close:
            return f"There is no option {option}. Did you mean {' or '.join(close)}?"
        places = [path for path, one in _commands(build_parser()) if option in _options(one)]
        if "tunesmith" in places:
            return f"{option} belongs before the command: `tunesmith {option} …`"
        hint = f"; `{places[0]}` has one" if places else ""
        return f"`{self.prog}` has no option {option}{hint}"


def _closest(option: str, known: Sequence[str]) -> list[str]:
    """Return the options that may be meant: those it begins or is part of, else similar ones."""
    plain = option.lstrip("-").replace("-", "_")
    if len(plain) < 2:  # noqa: PLR2004 - one letter resembles everything
        return []
    # Most options have two spellings; the one that resembles what was typed comes last.
    spellings = sorted(known, key=lambda one: ("_" in one) == ("_" in option))
    names = {one.lstrip("-").replace("-", "_"): one for one in spellings if one.startswith("--")}
    begun = [one for name, one in names.items() if name.startswith(plain)]
    return begun or [names[name] for name in difflib.get_close_matches(plain, names, n=2)]


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield a parser and all below it, each with the words that lead to it."""
    yield parser.prog, parser
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other way to them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            for one in action.choices.values():
                yield from _commands(one)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return list(parser._option_string_actions)  # noqa: SLF001 - argparse offers no other way


def _plain(message: str) -> str:
    """Return argparse's message as plain sentences."""
    if found := re.match(r"argument COMMAND: invalid choice: '(.*)' \(choose from (.*)\)", message):
        wrong, known = found[1], re.findall(r"[\w.]+", found[2])
        return f"There is no command {wrong!r}.{_meant(wrong, known)}"
    if found := re.match(r"argument (\S+): invalid (int|float) value: (.*)", message):
        kind = "whole number" if found[2] == "int" else "number"
        return f"{found[1].split('/')[0]}: {found[3]} is no {kind}."
    if found := re.match(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message):
        known = re.findall(r"[^\s',]+", found[3])
        close = difflib.get_close_matches(found[2], known, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        name = found[1].split("/")[0]
        return f"{name} cannot be {found[2]!r}.{meant} It is one of {', '.join(known)}."
    if either := re.match(r"one of the arguments (\S+) .* is required", message):
        return f"Missing: {either[1]}."
    if names := re.match(r"the following arguments are required: (.*)", message):
        missing = ("/".join(name.split("/")[:2]) for name in names[1].split(", "))
        return f"Missing: {', '.join(missing)}."
    end = "" if message.endswith((".", "?", "!")) else "."
    return f"{message[:1].upper()}{message[1:]}{end}"


def _meant(wrong: str, known: list[str]) -> str:
    """Return the command that may be meant: one of another place, or one with a similar name."""
    every = [path for path, _ in _commands(build_parser())]
    paths = {path.rpartition(" ")[2]: path for path in reversed(every)}
    if wrong in _OTHER_WORDS or wrong in paths:
        return f" It is `{_OTHER_WORDS.get(wrong) or paths[wrong]}`."
    close = difflib.get_close_matches(wrong, known, n=2, cutoff=0.7)
    if close:
        return f" Did you mean {' or '.join(map(repr, close))}?"
    within = [path for word, path in paths.items() if wrong in word.split(".")]
    similar = difflib.get_close_matches(wrong, paths, n=1, cutoff=0.75)
    if within or similar:
        listing = [path for path in within if path.endswith(".list")]
        return f" Did you mean `{(listing or within or [paths[similar[0]]])[0]}`?"
    return ""


class _PrintVersion(argparse.Action):
    """`--version`: print it and exit."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"tunesmith {__version__}")
        parser.exit()


def _help_of(parser: argparse.ArgumentParser) -> Handler:
    """Return the handler of a command that is incomplete: its help, as wrong usage."""

    def print_help(_: argparse.Namespace) -> int:
        parser.print_help(sys.stderr)
        return 2

    return print_help
