"""`tunesmith export` and `import`: models leave this engine, or come in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_database_option, add_home_option, open_database, require_extra
from .output import add_json_option, print_json, print_notice
from .parser import add_command

if TYPE_CHECKING:
    import argparse

    from tunesmith.engine.transfer import ExportFormat, ExportReport

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
        "tunesmith export ft:gpt-4o-mini-2024-07-18:local::Qn4RTPpz --to gguf --quantization q8_0",
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
    with open_database(arguments) as (home, database):
        from tunesmith.engine.transfer import ExportError, export_model, find_model, upload_to_hub

        to_hub = arguments.to == "hub"
        if to_hub and not arguments.repo:
            raise ExportError("Name the repository: --repo ORGANISATION/NAME.")
        if arguments.to in {"gguf", "ollama"}:
            require_extra("Exporting GGUF files", "export", "sentencepiece")
        source = find_model(arguments.model, home, database)
        kind: ExportFormat = arguments.to
        if to_hub:
            kind = "peft" if source.is_adapter else "merged"
        target = Path(arguments.output or _folder_name(source.name, kind)).expanduser().absolute()
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
        commit = upload_to_hub(target, arguments.repo, public=arguments.public) if to_hub else None
    if arguments.json:
        print_json(_as_json(report) | ({"hub": commit.url} if commit else {}))
        return 0
    print(_summary(report))
    if commit is not None:
        seen = "only you and your organisation see it" if commit.private else "everyone can see it"
        print(f"Uploaded to {commit.repository}: {commit.url} ({seen}).")
    return 0


def _folder_name(model: str, kind: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', model).strip('-.')}-{kind}"


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


def _summary(report: ExportReport) -> str:
    size = sum(report.files.values())
    lines = [f"{report.folder}: {len(report.files)} files, {size / 1e6:,.1f} MB"]
    found = report.difference
    if found is None:
        lines.append("Not compared with the served model.")
    else:
        against = (
            "" if report.effect is None else f", where fine-tuning has changed {report.effect:.2g}"
        )
        lines.append(
            f"Loaded again and compared with the served model over {found.positions} positions: "
            f"{found.divergence:.2g} nats a token{against}; the same most likely token at "
            f"{found.same_top:.1%}."
        )
    return "\n".join(lines)
