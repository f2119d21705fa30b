"""`tunesmith serve`: the engine in the foreground."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.types.job_parameters import RECIPES

from .options import add_database_option, add_home_option, get_home, require_engine
from .parser import add_command

if TYPE_CHECKING:
    from .parser import Commands

__all__ = ["register"]

# Options that are settings of the engine under the same name; None means its default.
SETTINGS = (
    "host",
    "port",
    "database_url",
    "organization",
    "recipe",
    "max_concurrent_jobs",
    "threads",
    "serving_threads",
    "log_format",
)


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "serve",
        _serve,
        "Train and serve on this machine, with the OpenAI API",
        "tunesmith serve --port 8712\n"
        "OPENAI_BASE_URL=http://127.0.0.1:8712/v1 OPENAI_API_KEY=any python your_program.py",
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=_port, help="port to listen on (default: 8712; 0: a free one)"
    )
    parser.add_argument(
        "--organization",
        metavar="NAME",
        help="owner of data created without keys (default: local)",
    )
    parser.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        help="how to train where a job does not say (default: auto, by estimated time)",
    )
    parser.add_argument(
        "--max-concurrent-jobs", type=int, metavar="N", help="trainings at a time (default: 1)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a training")
    parser.add_argument("--serving-threads", type=int, metavar="N", help="threads of completions")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings in TOML (default: engine.toml in the state folder, if it exists)",
    )
    parser.add_argument("--log-format", choices=("text", "json"), help="default: text")
    add_home_option(parser)
    add_database_option(parser)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, a number from 0 to 65535")
    return int(text)


def _serve(arguments: argparse.Namespace) -> int:
    require_engine()
    home = get_home(arguments)
    from tunesmith.engine import serve
    from tunesmith.engine.config_file import load_config

    settings: dict[str, Any] = {
        name: value for name in SETTINGS if (value := getattr(arguments, name)) is not None
    }
    serve(load_config(home, arguments.config, **settings))
    return 0
