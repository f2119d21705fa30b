"""Options of the commands that create a job, for both fine-tuning APIs.

The settings come from the table in `tunesmith.types.job_parameters`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.cli.training_files import resolve_file
from tunesmith.types.job_parameters import parameters_of

if TYPE_CHECKING:
    import argparse

    from tunesmith.client import Client
    from tunesmith.types.job_parameters import JobAPI, JobParameter

__all__ = ["add_job_options", "job_settings", "uploaded_files"]

_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "floats": float}
_METAVARS = {"int": "N", "float": "X", "str": "TEXT", "floats": "X"}


def add_job_options(parser: argparse.ArgumentParser, api: JobAPI) -> None:
    """Add the files, the settings of the API, and how the command goes on after the creation."""
    parser.add_argument(
        "-t", "--training_file", "--training-file", required=True, metavar="ID_OR_PATH",
        help="training data: id of an uploaded file, a path, or a URL",
    )  # fmt: skip
    parser.add_argument(
        "-v", "--validation_file", "--validation-file", metavar="ID_OR_PATH",
        help="validation data: an id, a path, or a URL",
    )  # fmt: skip
    for setting in parameters_of(api, method="supervised"):
        _add_setting(parser, setting, api)
    parser.add_argument(
        "--no_follow", "--no-follow", action="store_true", help="return once the job is created"
    )
    parser.add_argument(
        "--no_check_if_files_exist", "--no-check-if-files-exist",
        dest="check_if_files_exist", action="store_false",
        help="upload without looking for an identical file on the server",
    )  # fmt: skip


def job_settings(arguments: argparse.Namespace, api: JobAPI) -> dict[str, Any]:
    """Return the settings that were used, by name."""
    values = {
        setting.name: getattr(arguments, setting.name)
        for setting in parameters_of(api, method="supervised")
    }
    return {name: value for name, value in values.items() if value is not None}


def uploaded_files(client: Client, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the ids of the training and validation files, uploading those that are paths."""
    named = {
        "training_file": arguments.training_file,
        "validation_file": arguments.validation_file,
    }
    return {
        name: resolve_file(client, value, check_existing=arguments.check_if_files_exist)
        for name, value in named.items()
        if value
    }


def _add_setting(parser: argparse.ArgumentParser, setting: JobParameter, api: JobAPI) -> None:
    """Add the option of one setting; None in the namespace means that it was not used."""
    names = dict.fromkeys((f"--{setting.name}", f"--{setting.name.replace('_', '-')}"))
    if setting.type == "bool":
        parser.add_argument(
            *names, action="store_const", const=True, default=None, help=setting.help
        )
        return
    text = setting.help
    if api in setting.max_length and setting.type == "str":
        text += f", up to {setting.max_length[api]} characters"
    default = setting.defaults[api]
    if default != "none":
        text += f" (default: {default})"
    parser.add_argument(
        *names,
        type=_TYPES[setting.type],
        nargs="+" if setting.type == "floats" else None,
        metavar=_METAVARS[setting.type],
        help=text.replace("%", "%%"),
    )
