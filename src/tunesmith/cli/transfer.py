"""`tunesmith export` and `import`: models leave this engine, or come in.

An export is made from the state folder where there is one, else by a running engine over HTTP.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import BadRequestError, TunesmithError

from .options import (
    add_connection_options,
    add_database_option,
    add_home_option,
    connect,
    get_home,
    open_database,
    require_engine,
    require_extra,
)
from .output import add_json_option, print_json, print_notice
from .parser import add_command
from .progress_bar import progress_bar

if TYPE_CHECKING:
    import argparse

    from tunesmith.client import Client
    from tunesmith.engine.transfer import ExportReport
    from tunesmith.types.model_exports import ExportFormat, ModelExport

    from .parser import Commands

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the commands `export` and `import`."""
    _register_export(commands)
    _register_import(commands)


def _register_export(commands: Commands) -> None:
    parser = add_command(
        commands,
        "export",
        _export,
        "Export a model as PEFT adapter, merged weights, GGUF, for Ollama, or to the hub",
        "tunesmith export ft:gpt-4o-mini-2024-07-18:local::Qn4RTPpz --to gguf --quantization q8_0\n"
        "tunesmith export ft:gpt-4o-mini-2024-07-18:local::Qn4RTPpz --to peft "
        "--api-base http://gpu-box:8712/v1",
    )
    parser.add_argument("model", metavar="MODEL", help="name of a fine-tuned or a base model")
    parser.add_argument(
        "--to",
        required=True,
        choices=("peft", "merged", "gguf", "ollama", "hub"),
        help="peft: the adapter; merged: whole weights; gguf: for llama.cpp; ollama: GGUF and "
        "Modelfile; hub: upload an adapter, or merged weights where there is none",
    )
    parser.add_argument(
        "-O", "--output", metavar="DIR", help="the new folder (default: named after the model)"
    )
    parser.add_argument(
        "-q",
        "--quantization",
        choices=("f32", "f16", "bf16", "q8_0", "q4_1", "q4_0"),
        default="bf16",
        help="type of the weights; merged weights have the first three only (default: bf16)",
    )
    parser.add_argument(
        "--with-base", action="store_true", help="put the base model beside the adapter"
    )
    parser.add_argument(
        "--no-compare",
        action="store_true",
        help="do not compare the copy's logits with the served model's",
    )
    parser.add_argument("--repo", metavar="ORG/NAME", help="with --to hub: the repository")
    parser.add_argument(
        "--public", action="store_true", help="with --to hub: create a public repository"
    )
    add_json_option(parser)
    add_home_option(parser)
    add_database_option(parser)
    add_connection_options(parser)


def _register_import(commands: Commands) -> None:
    parser = add_command(
        commands,
        "import",
        _import,
        "Serve a PEFT adapter that was trained elsewhere",
        "tunesmith import ./my-adapter --base smollm2-135m-instruct --suffix tweets",
    )
    parser.add_argument("folder", metavar="DIR", help="the adapter's folder")
    parser.add_argument(
        "--base", metavar="NAME", help="its base model (default: the one that it names)"
    )
    parser.add_argument("--suffix", default="", help="part of the model's name")
    parser.add_argument(
        "--org", default="local", metavar="NAME", help="organisation (default: local)"
    )
    add_json_option(parser)
    add_home_option(parser)
    add_database_option(parser)


def _import(arguments: argparse.Namespace) -> int:
    with open_database(arguments) as (home, database):
        from tunesmith.engine.jobs.model_names import slug
        from tunesmith.engine.transfer import import_adapter

        row = import_adapter(
            Path(arguments.folder).expanduser().absolute(),
            home,
            database,
            base=arguments.base,
            suffix=slug(arguments.suffix),
            organization=arguments.org,
        )
    if arguments.json:
        print_json({"model": row.name, "base_model": row.base_model})
    else:
        print(row.name)
        print_notice(f"Serve it with: tunesmith serve --home {home.root}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    if arguments.to == "hub" and not arguments.repo:
        raise TunesmithError("Name the repository: --repo ORGANISATION/NAME.")
    if _is_remote(arguments):
        return _export_over_http(arguments)
    with open_database(arguments) as (home, database):
        from tunesmith.engine.jobs.model_names import export_name
        from tunesmith.engine.transfer import export_model, find_model

        if arguments.to in {"gguf", "ollama"}:
            require_extra("Exporting GGUF files", "export", "sentencepiece")
        source = find_model(arguments.model, home, database)
        whole: ExportFormat = "peft" if source.is_adapter else "merged"
        kind: ExportFormat = whole if arguments.to == "hub" else arguments.to
        target = Path(arguments.output or export_name(source.name, kind)).expanduser().absolute()
        report = export_model(
            source,
            target,
            kind,
            home,
            quantization=arguments.quantization,
            with_base=arguments.with_base,
            compare=not arguments.no_compare,
            progress=print_notice,
        )
    _print_result(arguments, target, _as_json(report))
    return 0


def _is_remote(arguments: argparse.Namespace) -> bool:
    """Return whether a running engine is to make the export.

    It is where its address is an option, or in the environment and no state folder is at hand.
    """
    from tunesmith.core.environment import environment

    if getattr(arguments, "api_base", None):
        return True
    is_local = arguments.home or arguments.database_url or "TUNESMITH_HOME" in os.environ
    if is_local or not environment("BASE_URL"):
        return False
    return find_spec("platformdirs") is None or not get_home(arguments).root.exists()


def _export_over_http(arguments: argparse.Namespace) -> int:
    if arguments.to == "hub":
        require_engine("Uploading to the hub")  # from here: the engine is sent no token
    with connect(arguments) as client, progress_bar() as bar:
        created = _create(client, arguments)
        exports = client.models.exports

        def show(export: ModelExport) -> None:
            print_notice(export.step or export.status)

        try:
            export = exports.wait(created.id, on_progress=show)
        except KeyboardInterrupt:
            exports.cancel(created.id)
            print_notice(f"Cancelled the export {created.id}.")
            raise
        if export.status != "succeeded" or export.filename is None:
            reason = export.error.message if export.error else f"its status is {export.status!r}."
            raise TunesmithError(f"The export {export.id} has no files: {reason}")
        target = _remote_target(arguments, export.filename.removesuffix(".tar"))
        archive = target.with_name(f"{target.name}.tar")
        exports.download(
            export.id, archive, on_progress=lambda done, total: bar(archive.name, done, total)
        )
        from tunesmith.resources.export_archive import unpack

        unpack(archive, target)
        archive.unlink()
        exports.delete(export.id)
    files = {
        path.relative_to(target).as_posix(): path.stat().st_size
        for path in sorted(target.rglob("*"))
        if path.is_file()
    }
    comparison = export.comparison.to_dict() if export.comparison else None
    _print_result(
        arguments,
        target,
        {
            "folder": str(target),
            "format": export.format,
            "files": files,
            "comparison": comparison,
        },
    )
    return 0


def _create(client: Client, arguments: argparse.Namespace) -> ModelExport:
    """Ask for the export; for the hub an adapter, or merged weights where there is none."""
    if arguments.output:
        _remote_target(arguments, "")
    options: Any = {
        "model": arguments.model,
        "quantization": arguments.quantization,
        "with_base": arguments.with_base,
        "compare": not arguments.no_compare,
    }
    if arguments.to != "hub":
        return client.models.exports.create(format=arguments.to, **options)
    try:
        return client.models.exports.create(format="peft", **options)
    except BadRequestError as error:
        if error.code != "unsupported_export":
            raise
        return client.models.exports.create(format="merged", **options)


def _remote_target(arguments: argparse.Namespace, name: str) -> Path:
    target = Path(arguments.output or name).expanduser().absolute()
    if target.exists():
        raise TunesmithError(f"{target} exists already. Name a folder that does not, or remove it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _print_result(arguments: argparse.Namespace, folder: Path, result: dict[str, Any]) -> None:
    """Upload the folder where that was asked for; print what was exported."""
    commit = None
    if arguments.to == "hub":
        from tunesmith.engine.transfer import upload_to_hub

        commit = upload_to_hub(folder, arguments.repo, public=arguments.public)
    if arguments.json:
        print_json(result | ({"hub": commit.url} if commit else {}))
        return
    print(_summary(result))
    if commit is not None:
        seen = "only you and your organisation see it" if commit.private else "everyone can see it"
        print(f"Uploaded to {commit.repository}: {commit.url} ({seen}).")


def _as_json(report: ExportReport) -> dict[str, Any]:
    found = report.difference
    return {
        "folder": str(report.folder),
        "format": report.format,
        "files": report.files,
        "comparison": None
        if found is None
        else {
            "divergence": found.divergence,
            "largest_logit_difference": found.largest,
            "same_top_token": found.same_top,
            "positions": found.positions,
            "effect_of_fine_tuning": report.effect,
        },
    }


def _summary(result: dict[str, Any]) -> str:
    files, found = result["files"], result["comparison"]
    lines = [f"{result['folder']}: {len(files)} files, {sum(files.values()) / 1e6:,.1f} MB"]
    if found is None:
        lines.append("Not compared with the served model.")
    else:
        effect = found.get("effect_of_fine_tuning")
        against = "" if effect is None else f", where fine-tuning has changed {effect:.2g}"
        lines.append(
            f"Loaded again and compared with the served model over {found['positions']} "
            f"positions: {found['divergence']:.2g} nats a token{against}; the same most likely "
            f"token at {found['same_top_token']:.1%}."
        )
    return "\n".join(lines)
