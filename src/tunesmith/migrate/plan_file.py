"""`plan.toml`: the plan as a file that a person reads, edits and keeps under version control.

Written with comments that say what the old service did and what cannot be carried over; read
strictly, so that a misspelt setting is an error and not a default. Other tables in the file, such
as those of another step, are left alone.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunesmith.atomic import write_atomically
from tunesmith.errors import TunesmithError

from .planning import Plan, PlannedJob

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["PlanError", "read_plan", "write_plan"]

_FOR_PEOPLE = ("was", "estimate", "notes")
_NUMBERS = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")

_HEAD = """\
# One [[job]] for each model that was fine-tuned at the old service. Edit freely:
#   run = false leaves a job out; several `bases` are trained side by side; a copied [[job]] with
#   another `name` is a second try with other settings. "auto" lets the engine choose by the data.
# Paths are relative to the archive. Then: tunesmith migrate train plan.toml
"""


class PlanError(TunesmithError):
    """A plan's file cannot be used; the message names the job and the field."""


def write_plan(plan: Plan, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a plan.

    Args:
        plan: The plan.
        path: The file.
        overwrite: Replace a file that is there; a person may have edited it.

    Raises:
        PlanError: There is a file already.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise PlanError(
            f"{target} is there already, perhaps edited. Name another file, or remove it."
        )
    with write_atomically(target) as stream:
        stream.write("\n".join(_lines(plan)).encode("utf-8", "replace") + b"\n")
    return target


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan.

    Raises:
        PlanError: It is no plan; the error names the job and the field.
    """
    source = Path(path)
    try:
        content = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(f"There is no {source}. `tunesmith migrate plan` writes one.") from None
    except (OSError, ValueError) as error:
        raise PlanError(f"{source} cannot be read: {error}.") from None
    archive = content.get("archive")
    jobs = content.get("job")
    if not isinstance(archive, str) or not isinstance(jobs, list):
        raise PlanError(f"{source} is no plan: it needs `archive` and a list of [[job]].")
    plan = Plan(archive)
    names: set[str] = set()
    for number, table in enumerate(jobs, start=1):
        job = _job(table, f"{source}, job {number}")
        if job.name in names:
            raise PlanError(f"{source}: two jobs have the name {job.name!r}. Give one another.")
        names.add(job.name)
        plan.jobs.append(job)
    _check_order(plan, source)
    return plan


def _lines(plan: Plan) -> Iterator[str]:
    yield _HEAD
    yield f"archive = {_value(plan.archive)}"
    if plan.machine:
        yield f"# made for: {_comment(plan.machine)}"
    for identity, reason in plan.left_out.items():
        yield f"# left out: {_comment(f'{identity}: {reason}')}"
    for job in plan.jobs:
        yield ""
        yield "[[job]]"
        for note in job.notes:
            yield f"# {_comment(note)}"
        if job.estimate:
            yield f"# estimate: {_comment(job.estimate)}"
        if job.was:
            yield f"# the old service used: {_comment(job.was)}"
        for one in fields(job):
            value = getattr(job, one.name)
            if one.name not in _FOR_PEOPLE and value is not None:
                yield f"{one.name} = {_value(value)}"


def _value(value: Any) -> str:
    """Return a value as TOML; strings of JSON are strings of TOML but for one sign."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _job(table: Any, place: str) -> PlannedJob:
    if not isinstance(table, dict):
        raise PlanError(f"{place} is no table.")
    given = cast("dict[str, Any]", table)
    known = {one.name: one for one in fields(PlannedJob)}
    for name in given:
        if name not in known:
            raise PlanError(
                f"{place} has {name!r}, which is no setting. There is {', '.join(known)}."
            )
    for name, one in known.items():
        required = one.default is MISSING and one.default_factory is MISSING
        if required and name not in given and name != "training_file":
            raise PlanError(f"{place} has no {name}.")
    job = PlannedJob(**{"training_file": None, **given})
    _check_values(job, place)
    return job


def _check_values(job: PlannedJob, place: str) -> None:
    for name, kind in (("name", str), ("run", bool), ("bases", list), ("require", list)):
        if not isinstance(getattr(job, name), kind):
            raise PlanError(f"{place}: {name} must be a {kind.__name__}.")
    for name in _NUMBERS:
        value = getattr(job, name)
        if value != "auto" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise PlanError(f'{place}: {name} is {value!r}; it must be a number or "auto".')
    if job.method not in {"supervised", "dpo"}:
        raise PlanError(f"{place}: method is {job.method!r}; it must be supervised or dpo.")
    for name in ("training_file", "bases") if job.run else ():
        if not getattr(job, name):
            raise PlanError(f"{place} has no {name}: give one, or set run = false.")


def _check_order(plan: Plan, source: Path) -> None:
    done: set[str] = set()
    for job in plan.jobs:
        if job.run and job.after is not None and job.after not in done:
            raise PlanError(
                f"{source}: {job.name} continues {job.after}, which no job before it trains. Put "
                "that one first, or remove `after` to train on the base."
            )
        if job.run:
            done.add(job.old_model)
