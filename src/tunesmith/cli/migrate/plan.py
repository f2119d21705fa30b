"""`tunesmith migrate plan` and `migrate train`: from archived jobs to local ones.

The plan knows no engine; which bases there are and what this machine holds is composed here.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tunesmith.cli.options import (
    add_connection_options,
    add_home_option,
    connect,
    get_home,
)
from tunesmith.cli.output import add_json_option, print_json, print_notice, table
from tunesmith.cli.parser import add_command

from .asked import folder_of

if TYPE_CHECKING:
    import argparse

    from tunesmith.cli.parser import Commands
    from tunesmith.migrate import Base, Machine, TrainedJob

__all__ = ["register"]

_TARGETS = ("together", "fireworks", "azure", "nebius", "bedrock")
JOB_FAILED = 3

# What training reaches, for rough estimates: a core of a processor, and a current data-centre GPU.
_CORE_FLOPS = 2e10
_GPU_FLOPS = 1.5e14


def register(commands: Commands) -> None:
    """Add `plan` and `train`."""
    parser = add_command(
        commands,
        "plan",
        _plan,
        "Plan a local job for each job of an archive, or a request to another service",
        "tunesmith migrate plan archive -O plan.toml\ntunesmith migrate plan archive --to together",
    )
    parser.add_argument("archive", metavar="DIR", help="the archive")
    parser.add_argument(
        "-O", "--output", default="plan.toml", metavar="FILE",
        help="the plan, a file to edit (default: plan.toml)",
    )  # fmt: skip
    parser.add_argument("--project", metavar="ID", help="only the jobs of this project")
    parser.add_argument(
        "-m", "--model", action="append", metavar="NAME",
        help="only the job that made this old model, and those that it continued; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--base", action="append", default=[], metavar="NAME",
        help="plan with this base instead of the advised one; repeatable, trained side by side",
    )  # fmt: skip
    parser.add_argument(
        "--to", choices=_TARGETS, help="print requests for this service as JSON; send nothing"
    )
    parser.add_argument(
        "--no-check", action="store_true", help="do not check the training files' rows"
    )
    add_home_option(parser)
    train = add_command(
        commands,
        "train",
        _train,
        "Run a plan through the queue of an engine",
        "tunesmith migrate train plan.toml",
    )
    train.add_argument("plan", metavar="FILE", help="the plan")
    add_json_option(train)
    add_connection_options(train)


def _plan(arguments: argparse.Namespace) -> int:
    from tunesmith.migrate import export_plan, plan, write_plan

    bases, machine = _bases_here(arguments)
    bases = [one for one in bases if one.name in arguments.base] or bases
    made = plan(
        folder_of(arguments.archive),
        bases,
        machine,
        project=arguments.project,
        models=arguments.model,
        check=not arguments.no_check,
    )
    if arguments.base:
        for job in made.jobs:
            job.bases = list(arguments.base)
            job.run = job.training_file is not None
    if arguments.to is not None:
        print_json([job.to_dict() for job in export_plan(made, arguments.to)])
        return 0
    path = write_plan(made, folder_of(arguments.output))
    rows = [
        [job.old_model, ", ".join(job.bases) or "-", "yes" if job.run else "no", job.estimate]
        for job in made.jobs
    ]
    print(table(("old model", "base", "run", "estimate"), rows) if rows else "No job made a model.")
    for identity, reason in made.left_out.items():
        print_notice(f"left out {identity}: {reason}")
    jobs = "1 job" if len(made.jobs) == 1 else f"{len(made.jobs)} jobs"
    print(f"{path}: {jobs}. Read and edit it, then: tunesmith migrate train {path}")
    return 0


def _train(arguments: argparse.Namespace) -> int:
    from tunesmith.migrate import train

    with connect(arguments) as client:
        trained = train(client, folder_of(arguments.plan), on_event=_report)
    if arguments.json:
        print_json([_as_json(one) for one in trained])
    else:
        rows = [[one.old_model, one.base, one.status, one.model or one.error] for one in trained]
        print(
            table(("old model", "base", "status", "new model"), rows) if rows else "Nothing to do."
        )
    return 0 if all(one.status == "succeeded" for one in trained) else JOB_FAILED


def _report(job: TrainedJob) -> None:
    print_notice(f"{job.job_id} on {job.base}, for {job.old_model}: {job.status}")


def _as_json(job: TrainedJob) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(job)


def _bases_here(arguments: argparse.Namespace) -> tuple[list[Base], Machine | None]:
    """Return the engine's base models and this machine; nothing where the engine is missing."""
    from tunesmith.migrate import Base, Machine

    if find_spec("torch") is None or find_spec("platformdirs") is None:
        print_notice("The extra `engine` is not installed here: no base is advised.")
        return [], None
    from tunesmith.engine.models.catalog import load_catalog
    from tunesmith.engine.models.memory_table import memory_needed, memory_of_this_machine

    bases: list[Base] = []
    for model in load_catalog(get_home(arguments)).bases():
        facts = model.facts
        parameters = facts.parameters
        memory = (
            {}
            if parameters is None
            else {
                "qlora": memory_needed(parameters, "qlora"),
                "lora": memory_needed(parameters, "lora"),
            }
        )
        bases.append(
            Base(
                name=model.id,
                parameters=parameters,
                context=facts.context,
                tools=facts.tools,
                thinks=facts.thinks,
                languages=facts.languages,
                installed=model.installed,
                gated=bool(facts.gated),
                memory=memory,
            )
        )
    name, memory_bytes = memory_of_this_machine()
    is_gpu = name != "processor"
    return bases, Machine(
        name if is_gpu else "this machine's processor",
        memory_bytes,
        _GPU_FLOPS if is_gpu else _CORE_FLOPS * (os.cpu_count() or 1),
        ("lora", "qlora") if is_gpu else ("lora",),
    )
