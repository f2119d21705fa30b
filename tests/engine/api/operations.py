"""Every operation of the client, and how it is called on an engine that has everything it needs.

`test_every_operation.py` calls them; `python tests/engine/api/operations.py` writes the table in
`docs/reference/operations.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "operations.md"
MESSAGES = [{"role": "user", "content": "a"}]
GRADER = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}


@dataclass(frozen=True)
class State:
    """What exists on the engine.

    Attributes:
        file: Id of a file for training; `path` is its copy on the disk.
        job: Id of a finished job of the jobs API; `fine_tune` the same in the legacy API.
        paused: Makes a paused job and returns its id; `running` an unfinished one.
        model: A fine-tuned model; `checkpoint` one of its checkpoints.
        stored: Makes a stored chat completion and returns its id; the other callables likewise.
    """

    path: Path
    file: str
    job: str
    fine_tune: str
    model: str
    checkpoint: str
    organization: str
    new_file: Callable[[], str]
    running: Callable[[], str]
    paused: Callable[[], str]
    running_fine_tune: Callable[[], str]
    finished_fine_tune: Callable[[], str]
    finished_model: Callable[[], str]
    stored: Callable[[], str]
    upload: Callable[[], str]
    full_upload: Callable[[], tuple[str, str]]
    permission: Callable[[], str]
    route: Callable[[], str]
    finished_export: str
    export: Callable[[], str]
    new_name: Callable[[], str]


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        arguments: Its arguments, for a state.
        route: The engine's route that answers, or several.
        refused: A part of the sentence that says what to use instead; None if it is answered.
        several: Whether it makes several requests, so that no view of one response exists.
    """

    arguments: Callable[[State], dict[str, Any]]
    route: str
    refused: str | None = None
    several: bool = False


def _chat(_: State, **fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": MESSAGES, "max_tokens": 2} | fields


def _parsed(state: State) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    return _chat(state, response_format=form, max_tokens=40)


def _complete(state: State) -> dict[str, Any]:
    upload, part = state.full_upload()
    return {"upload_id": upload, "part_ids": [part]}


_JOBS = "/v1/fine_tuning/jobs"
_LEGACY = "/v1/fine-tunes"
_ROUTES = "/v1/model_routes"
_STORED = "/v1/chat/completions/{id}"
_EXPORT = "/v1/exports/{id}"
_PERMISSIONS = "/v1/fine_tuning/checkpoints/{model}/permissions"
_NO_SUCH_URL = "Not allowed to"
# What the hosted service has and the engine has not.
_NO_BATCHES = "Batches are not offered here"
_NO_EVALS = "Evals are not offered here"
_NO_ORGANIZATION = "tunesmith keys"

CHAT: dict[str, Operation] = {
    "create": Operation(_chat, "POST /v1/chat/completions"),
    "parse": Operation(_parsed, "POST /v1/chat/completions"),
    "stream": Operation(_chat, "POST /v1/chat/completions", several=True),
    "map": Operation(
        lambda _: {
            "requests": [{"messages": MESSAGES}] * 2,
            "model": "tiny",
            "max_tokens": 2,
        },
        "POST /v1/chat/completions",
        several=True,
    ),
    "list": Operation(lambda _: {"limit": 2}, "GET /v1/chat/completions"),
    "retrieve": Operation(lambda s: {"completion_id": s.stored()}, f"GET {_STORED}"),
    "update": Operation(
        lambda s: {"completion_id": s.stored(), "metadata": {"a": "b"}}, f"POST {_STORED}"
    ),
    "delete": Operation(lambda s: {"completion_id": s.stored()}, f"DELETE {_STORED}"),
    "export": Operation(
        lambda s: {"file": s.path.with_name("exported.jsonl")},
        f"GET /v1/chat/completions, GET {_STORED}/messages",
        several=True,
    ),
    "messages.list": Operation(lambda s: {"completion_id": s.stored()}, f"GET {_STORED}/messages"),
}

OPERATIONS: dict[str, Operation] = {
    "get": Operation(lambda _: {"path": "/models"}, "any"),
    "post": Operation(lambda s: {"path": f"/uploads/{s.upload()}/cancel"}, "any"),
    "delete": Operation(lambda s: {"path": f"/files/{s.new_file()}"}, "any"),
    "put": Operation(lambda _: {"path": "/models"}, "any; the engine has none", _NO_SUCH_URL),
    "patch": Operation(lambda _: {"path": "/models"}, "any; the engine has none", _NO_SUCH_URL),
    "files.create": Operation(lambda s: {"file": s.path, "purpose": "fine-tune"}, "POST /v1/files"),
    "files.list": Operation(lambda _: {"limit": 2}, "GET /v1/files"),
    "files.retrieve": Operation(lambda s: {"file_id": s.file}, "GET /v1/files/{id}"),
    "files.content": Operation(lambda s: {"file_id": s.file}, "GET /v1/files/{id}/content"),
    "files.retrieve_content": Operation(
        lambda s: {"file_id": s.file}, "GET /v1/files/{id}/content"
    ),
    "files.delete": Operation(lambda s: {"file_id": s.new_file()}, "DELETE /v1/files/{id}"),
    "files.find_matching": Operation(
        lambda s: {"file": s.path, "purpose": "fine-tune"}, "GET /v1/files", several=True
    ),
    "files.wait_for_processing": Operation(
        lambda s: {"id": s.file, "poll_interval": 0.1}, "GET /v1/files/{id}", several=True
    ),
    "uploads.create": Operation(
        lambda _: {
            "bytes": 1,
            "filename": "a.jsonl",
            "mime_type": "application/jsonl",
            "purpose": "fine-tune",
        },
        "POST /v1/uploads",
    ),
    "uploads.parts.create": Operation(
        lambda s: {"upload_id": s.upload(), "data": b"x"}, "POST /v1/uploads/{id}/parts"
    ),
    "uploads.complete": Operation(_complete, "POST /v1/uploads/{id}/complete"),
    "uploads.cancel": Operation(
        lambda s: {"upload_id": s.upload()}, "POST /v1/uploads/{id}/cancel"
    ),
    "uploads.upload_file_chunked": Operation(
        lambda s: {
            "file": s.path,
            "mime_type": "application/jsonl",
            "purpose": "fine-tune",
            "part_size": 200,
        },
        "POST /v1/uploads, its parts and its end",
        several=True,
    ),
    "fine_tunes.create": Operation(
        lambda s: {"training_file": s.file, "model": "ada", "n_epochs": 1}, f"POST {_LEGACY}"
    ),
    "fine_tunes.list": Operation(lambda _: {}, f"GET {_LEGACY}"),
    "fine_tunes.retrieve": Operation(lambda s: {"id": s.fine_tune}, f"GET {_LEGACY}/{{id}}"),
    "fine_tunes.cancel": Operation(
        lambda s: {"id": s.running_fine_tune()}, f"POST {_LEGACY}/{{id}}/cancel"
    ),
    "fine_tunes.delete": Operation(
        lambda s: {"id": s.finished_fine_tune()}, "DELETE /v1/models/{model}", several=True
    ),
    "fine_tunes.list_events": Operation(
        lambda s: {"id": s.fine_tune}, f"GET {_LEGACY}/{{id}}/events"
    ),
    "fine_tunes.stream_events": Operation(
        lambda s: {"id": s.fine_tune}, f"GET {_LEGACY}/{{id}}/events?stream=true"
    ),
    "fine_tunes.events": Operation(
        lambda s: {"id": s.fine_tune}, f"GET {_LEGACY}/{{id}}/events", several=True
    ),
    "fine_tunes.follow": Operation(
        lambda s: {"id": s.fine_tune}, f"GET {_LEGACY}/{{id}}/events", several=True
    ),
    "fine_tunes.wait": Operation(
        lambda s: {"id": s.fine_tune}, f"GET {_LEGACY}/{{id}}", several=True
    ),
    "fine_tunes.results": Operation(
        lambda s: {"id": s.fine_tune},
        f"GET {_LEGACY}/{{id}}, GET /v1/files/{{id}}/content",
        several=True,
    ),
    "fine_tuning.jobs.create": Operation(
        lambda s: {"training_file": s.file, "model": "ada"}, f"POST {_JOBS}"
    ),
    "fine_tuning.jobs.list": Operation(lambda _: {"limit": 2}, f"GET {_JOBS}"),
    "fine_tuning.jobs.retrieve": Operation(
        lambda s: {"fine_tuning_job_id": s.job}, f"GET {_JOBS}/{{id}}"
    ),
    "fine_tuning.jobs.cancel": Operation(
        lambda s: {"fine_tuning_job_id": s.running()}, f"POST {_JOBS}/{{id}}/cancel"
    ),
    "fine_tuning.jobs.pause": Operation(
        lambda s: {"fine_tuning_job_id": s.running()}, f"POST {_JOBS}/{{id}}/pause"
    ),
    "fine_tuning.jobs.resume": Operation(
        lambda s: {"fine_tuning_job_id": s.paused()}, f"POST {_JOBS}/{{id}}/resume"
    ),
    "fine_tuning.jobs.list_events": Operation(
        lambda s: {"fine_tuning_job_id": s.job, "limit": 2}, f"GET {_JOBS}/{{id}}/events"
    ),
    "fine_tuning.jobs.checkpoints.list": Operation(
        lambda s: {"fine_tuning_job_id": s.job}, f"GET {_JOBS}/{{id}}/checkpoints"
    ),
    "fine_tuning.jobs.events": Operation(
        lambda s: {"fine_tuning_job_id": s.job}, f"GET {_JOBS}/{{id}}/events", several=True
    ),
    "fine_tuning.jobs.follow": Operation(
        lambda s: {"fine_tuning_job_id": s.job}, f"GET {_JOBS}/{{id}}/events", several=True
    ),
    "fine_tuning.jobs.wait": Operation(
        lambda s: {"fine_tuning_job_id": s.job}, f"GET {_JOBS}/{{id}}", several=True
    ),
    "fine_tuning.jobs.results": Operation(
        lambda s: {"fine_tuning_job_id": s.job},
        f"GET {_JOBS}/{{id}}, GET /v1/files/{{id}}/content",
        several=True,
    ),
    "fine_tuning.checkpoints.permissions.create": Operation(
        lambda s: {
            "fine_tuned_model_checkpoint": s.checkpoint,
            "project_ids": [s.organization],
        },
        f"POST {_PERMISSIONS}",
    ),
    "fine_tuning.checkpoints.permissions.list": Operation(
        lambda s: {"fine_tuned_model_checkpoint": s.checkpoint}, f"GET {_PERMISSIONS}"
    ),
    "fine_tuning.checkpoints.permissions.retrieve": Operation(
        lambda s: {"fine_tuned_model_checkpoint": s.checkpoint}, f"GET {_PERMISSIONS}"
    ),
    "fine_tuning.checkpoints.permissions.delete": Operation(
        lambda s: {
            "fine_tuned_model_checkpoint": s.checkpoint,
            "permission_id": s.permission(),
        },
        f"DELETE {_PERMISSIONS}/{{id}}",
    ),
    "fine_tuning.alpha.graders.run": Operation(
        lambda _: {"grader": GRADER, "model_sample": "a", "item": {"answer": "a"}},
        "POST /v1/fine_tuning/alpha/graders/run",
    ),
    "fine_tuning.alpha.graders.validate": Operation(
        lambda _: {"grader": GRADER}, "POST /v1/fine_tuning/alpha/graders/validate"
    ),
    "completions.create": Operation(
        lambda _: {"model": "tiny", "prompt": "a", "max_tokens": 2}, "POST /v1/completions"
    ),
    "completions.map": Operation(
        lambda _: {"requests": [{"prompt": "a"}] * 2, "model": "tiny", "max_tokens": 2},
        "POST /v1/completions",
        several=True,
    ),
    **{f"chat.completions.{name}": one for name, one in CHAT.items()},
    **{f"beta.chat.completions.{name}": one for name, one in CHAT.items()},
    "models.export": Operation(
        lambda s: {"model": s.model, "folder": s.path.with_name(s.new_name()), "format": "peft"},
        "POST /v1/exports, then as models.exports",
        several=True,
    ),
    "models.exports.create": Operation(
        lambda s: {"model": s.model, "format": "peft"}, "POST /v1/exports"
    ),
    "models.exports.list": Operation(lambda _: {"limit": 2}, "GET /v1/exports"),
    "models.exports.retrieve": Operation(lambda s: {"export_id": s.export()}, f"GET {_EXPORT}"),
    "models.exports.wait": Operation(
        lambda s: {"export_id": s.finished_export, "poll_interval": 0.1},
        f"GET {_EXPORT}",
        several=True,
    ),
    "models.exports.download": Operation(
        lambda s: {"export_id": s.finished_export, "file": s.path.with_name(s.new_name())},
        f"GET {_EXPORT}, GET {_EXPORT}/content",
        several=True,
    ),
    "models.exports.cancel": Operation(
        lambda s: {"export_id": s.export()}, f"POST {_EXPORT}/cancel"
    ),
    "models.exports.delete": Operation(lambda s: {"export_id": s.export()}, f"DELETE {_EXPORT}"),
    "models.list": Operation(lambda _: {}, "GET /v1/models"),
    "models.retrieve": Operation(lambda s: {"model": s.model}, "GET /v1/models/{model}"),
    "models.delete": Operation(
        lambda s: {"model": s.finished_model()}, "DELETE /v1/models/{model}"
    ),
    "model_routes.set": Operation(
        lambda _: {"name": "ft:old:acme::a", "target": "tiny"}, f"POST {_ROUTES}"
    ),
    "model_routes.list": Operation(lambda _: {}, f"GET {_ROUTES}"),
    "model_routes.retrieve": Operation(lambda s: {"name": s.route()}, f"GET {_ROUTES}/{{name}}"),
    "model_routes.delete": Operation(lambda s: {"name": s.route()}, f"DELETE {_ROUTES}/{{name}}"),
    "model_routes.list_decisions": Operation(
        lambda s: {"name": s.route(), "limit": 2}, f"GET {_ROUTES}/{{name}}/decisions"
    ),
    "model_routes.curves": Operation(
        lambda s: {"name": s.route(), "hours": 1}, f"GET {_ROUTES}/{{name}}/curves"
    ),
    "batches.create": Operation(
        lambda s: {"input_file_id": s.file, "endpoint": "/v1/completions"},
        "POST /v1/batches",
        _NO_BATCHES,
    ),
    "batches.retrieve": Operation(
        lambda _: {"batch_id": "batch_1"}, "GET /v1/batches/{id}", _NO_BATCHES
    ),
    "batches.list": Operation(lambda _: {"limit": 2}, "GET /v1/batches", _NO_BATCHES),
    "batches.cancel": Operation(
        lambda _: {"batch_id": "batch_1"}, "POST /v1/batches/{id}/cancel", _NO_BATCHES
    ),
    "evals.list": Operation(lambda _: {"limit": 2}, "GET /v1/evals", _NO_EVALS),
    "evals.retrieve": Operation(lambda _: {"eval_id": "eval_1"}, "GET /v1/evals/{id}", _NO_EVALS),
    "evals.runs.list": Operation(
        lambda _: {"eval_id": "eval_1"}, "GET /v1/evals/{id}/runs", _NO_EVALS
    ),
    "evals.runs.retrieve": Operation(
        lambda _: {"run_id": "evalrun_1", "eval_id": "eval_1"},
        "GET /v1/evals/{id}/runs/{id}",
        _NO_EVALS,
    ),
    "evals.runs.output_items.list": Operation(
        lambda _: {"run_id": "evalrun_1", "eval_id": "eval_1"},
        "GET /v1/evals/{id}/runs/{id}/output_items",
        _NO_EVALS,
    ),
    "evals.runs.output_items.retrieve": Operation(
        lambda _: {"output_item_id": "outputitem_1", "run_id": "evalrun_1", "eval_id": "eval_1"},
        "GET /v1/evals/{id}/runs/{id}/output_items/{id}",
        _NO_EVALS,
    ),
    "admin.organization.projects.list": Operation(
        lambda _: {"limit": 2}, "GET /v1/organization/projects", _NO_ORGANIZATION
    ),
    "admin.organization.projects.retrieve": Operation(
        lambda _: {"project_id": "proj_1"}, "GET /v1/organization/projects/{id}", _NO_ORGANIZATION
    ),
    "admin.organization.projects.rate_limits.list_rate_limits": Operation(
        lambda _: {"project_id": "proj_1"},
        "GET /v1/organization/projects/{id}/rate_limits",
        _NO_ORGANIZATION,
    ),
    "admin.organization.usage.costs": Operation(
        lambda _: {"start_time": 1}, "GET /v1/organization/costs", _NO_ORGANIZATION
    ),
}


def names_of(owner: Any, path: str = "") -> Iterator[str]:
    """Yield the names of a client's operations, those of its resources dotted."""
    for name in dir(owner):
        if name.startswith(("_", "with_")):
            continue
        if hasattr(getattr(type(owner), name, None), "flow"):
            yield path + name
            continue
        value = getattr(owner, name)
        if type(value).__module__.startswith("tunesmith.resources"):
            yield from names_of(value, f"{path}{name}.")


def page() -> str:
    """Return the page with the table."""
    introduction = (
        "Generated by `tests/engine/api/operations.py`. A test calls each of them on a running "
        "engine, with both clients, and on the views of raw and of streamed responses where the "
        "operation makes one request; an operation that is not in the table fails it."
    )
    lines = [
        "# Reference: the client's operations on the engine",
        "",
        introduction,
        "",
        "| Operation | Route of the engine | Answer | One response |",
        "|---|---|---|---|",
    ]
    for name, one in OPERATIONS.items():
        answer = "answered" if one.refused is None else "refused: the engine has no such route"
        views = "no: several requests" if one.several else "yes"
        lines.append(f"| `client.{name}` | `{one.route}` | {answer} | {views} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
