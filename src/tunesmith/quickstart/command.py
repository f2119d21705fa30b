"""`tunesmith quickstart`: the command and its options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cli.options import add_home_option, get_home, require_engine, require_extra
from tunesmith.cli.parser import add_command

if TYPE_CHECKING:
    import argparse

    from tunesmith.cli.parser import Commands

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "quickstart",
        _quickstart,
        "Fine-tune a real model on real tweets, from data to answers, in minutes",
        "tunesmith quickstart\ntunesmith quickstart --backend http://127.0.0.1:8712/v1",
    )
    parser.add_argument(
        "--backend",
        metavar="URL",
        help="base URL of a server to use instead of starting one (with its /v1)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        default="quickstart",
        help="folder for the output files (default: quickstart)",
    )
    parser.add_argument(
        "-m", "--model", default="ada", help="base model to start from (default: ada)"
    )
    parser.add_argument(
        "--n_epochs", "--n-epochs", type=int, default=1, metavar="N", help="default: 1"
    )
    add_home_option(parser)


def _quickstart(arguments: argparse.Namespace) -> int:
    require_extra("The quickstart", "quickstart", "matplotlib", "platformdirs")
    if arguments.backend is None:
        require_engine()
    home = get_home(arguments)
    from .workflow import Options, run

    run(
        Options(
            home=home,
            output=Path(arguments.output).expanduser(),
            backend=arguments.backend,
            api_key=getattr(arguments, "api_key", None),
            model=arguments.model,
            n_epochs=arguments.n_epochs,
        )
    )
    return 0
