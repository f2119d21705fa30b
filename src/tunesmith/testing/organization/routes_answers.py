"""The addresses at which a recorded organisation's models answer: at once, stored, in batches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .answers import chat_chunks, text_completion
from .routes_training import public_fields, readable_number, uploaded_file
from .service import DEPLOYED, Answer, Caller, OrganizationService, Refused, refusal, route
from .training_facts import COMPLETION_BASES, FineTuned

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from .tasks import Task

__all__: list[str] = []

# Answers


@route("POST", DEPLOYED + r"/chat/completions")
def _chat(service: OrganizationService, caller: Caller, found: re.Match[str]) -> Any:
    body = caller.json
    if found["deployment"]:
        body = {**body, "model": unquote(found["deployment"])}
    made = service.chat(caller, body)
    if not body.get("stream"):
        return made
    options = body.get("stream_options") or {}
    chunks = chat_chunks(made, with_usage=bool(options.get("include_usage")))
    return Answer(200, headers={"content-type": "text/event-stream"}, stream=_events(chunks))


def _events(chunks: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    for chunk in chunks:
        yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()
    yield b"data: [DONE]\n\n"


@route("POST", DEPLOYED + r"/completions")
def _complete(service: OrganizationService, caller: Caller, found: re.Match[str]) -> Any:
    body = caller.json
    if found["deployment"]:
        body = {**body, "model": unquote(found["deployment"])}
    made = _completion(service, caller, body)
    if not body.get("stream"):
        return made
    return Answer(200, headers={"content-type": "text/event-stream"}, stream=_events(iter([made])))


def _completion(
    service: OrganizationService, caller: Caller, body: dict[str, Any]
) -> dict[str, Any]:
    name, prompts = str(body.get("model")), body.get("prompt") or ""
    model = service.find_model(caller, name)
    if (model.base if isinstance(model, FineTuned) else name) not in COMPLETION_BASES:
        message = "This is a chat model and not supported in the v1/completions endpoint."
        raise Refused(404, message, param="model")
    task = model.task if isinstance(model, FineTuned) else None
    texts = [
        " " + str(service.answers.message(name, task, _as_chat(prompt), {})["content"])
        for prompt in ([prompts] if isinstance(prompts, str) else prompts)
        for _ in range(int(body.get("n") or 1))
    ]
    return text_completion(body, f"cmpl-{len(texts)}", service.contents.now, texts)


def _as_chat(prompt: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": str(prompt).removesuffix(" ->")}]


# Stored completions


def _stored(service: OrganizationService, project: int) -> list[tuple[str, int]]:
    contents = service.contents
    if not any(True for _ in contents.models_of(project)):
        return []
    found = [(contents.stored_id(project, at), at) for at in range(contents.stored)]
    made = [
        (one["id"], -1 - at)
        for at, (place, one, _) in enumerate(service.made_stored)
        if place == project
    ]
    return [pair for pair in [*found, *made] if pair[0] not in service.deleted]


def _stored_at(service: OrganizationService, project: int, at: int) -> dict[str, Any]:
    contents = service.contents
    if at < 0:
        return service.made_stored[-1 - at][1]
    model, task = _stored_model(service, project, at)
    messages = _stored_messages(service, project, at)
    answer = service.answers.message(model.name, task, messages, {}, kept=True)
    body = {"model": model.name, "messages": messages}
    created = contents.now - (contents.stored - at) * 600
    made = service.answers.completion(body, contents.stored_id(project, at), created, answer)
    tools = list(task.tools) or None
    return {**made, "metadata": {"at": str(at)}, "tools": tools, "temperature": 1.0, "seed": None}


def _stored_model(service: OrganizationService, project: int, at: int) -> tuple[FineTuned, Task]:
    model = service.contents.stored_model(project, at)
    if model is None or model.task is None:
        raise Refused(404, "There are no stored completions.")
    return model, model.task


def _stored_messages(service: OrganizationService, project: int, at: int) -> list[dict[str, Any]]:
    contents = service.contents
    if at < 0:
        return service.made_stored[-1 - at][2]
    task = _stored_model(service, project, at)[1]
    return task.messages(contents.stored_number(project, at))


@route("GET", r"/chat/completions")
def _list_stored(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    pairs = _stored(service, caller.place)
    if wanted := caller.query.get("model"):
        pairs = [
            pair for pair in pairs if _stored_at(service, caller.place, pair[1])["model"] == wanted
        ]
    if caller.query.get("order") == "desc":
        pairs.reverse()

    def make(at: int) -> dict[str, Any]:
        return _stored_at(service, caller.place, pairs[at][1])

    return service.page(caller, [one for one, _ in pairs], make, default=20, most=100)


def _stored_position(service: OrganizationService, caller: Caller, identity: str) -> int:
    for one, at in _stored(service, caller.place):
        if one == identity:
            return at
    raise Refused(404, f"Chat completion {identity} not found.", param="completion_id")


@route("GET", r"/chat/completions/(?P<id>[^/]+)")
def _get_stored(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    return _stored_at(service, caller.place, _stored_position(service, caller, found["id"]))


@route("GET", r"/chat/completions/(?P<id>[^/]+)/messages")
def _list_messages(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    identity = found["id"]
    at = _stored_position(service, caller, identity)
    messages = [
        {"id": f"{identity}-{index}", "name": None, **one}
        for index, one in enumerate(_stored_messages(service, caller.place, at))
    ]
    return service.page_of(caller, messages, default=20, most=100)


# Batches


def _batches(service: OrganizationService, caller: Caller) -> list[dict[str, Any]]:
    made = [one for one in service.made_batches.values() if one["_project"] == caller.place]
    pairs = service.contents.batch_pairs(caller.place)
    return [*made[::-1], *(service.contents.batch(*pair) for pair in pairs)]


@route("GET", r"/batches")
def _list_batches(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    found = [public_fields(one) for one in _batches(service, caller)]
    return service.page_of(caller, found, default=20, most=100)


def _batch(service: OrganizationService, caller: Caller, identity: str) -> dict[str, Any]:
    for one in _batches(service, caller):
        if one["id"] == identity:
            return one
    raise Refused(404, f"No batch found with id '{identity}'.")


@route("GET", r"/batches/(?P<id>[^/]+)")
def _get_batch(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    batch = _batch(service, caller, found["id"])
    # One that was made here is done when it is asked for the second time.
    if "_output" in batch and batch["status"] in {"validating", "in_progress"}:
        batch["status"] = "in_progress" if batch["status"] == "validating" else "completed"
        if batch["status"] == "completed":
            batch |= batch.pop("_output")
    return public_fields(batch)


@route("POST", r"/batches/(?P<id>[^/]+)/cancel")
def _cancel_batch(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    batch = _batch(service, caller, found["id"])
    if batch["status"] in {"validating", "in_progress"}:
        batch |= {"status": "cancelled", "cancelled_at": service.contents.now}
    return public_fields(batch)


@route("POST", r"/batches")
def _create_batch(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    body, contents = caller.json, service.contents
    file_id = str(body.get("input_file_id"))
    made = uploaded_file(service, caller, file_id)
    content = made[1] if made else contents.content(readable_number(service, caller, file_id))
    count = len(service.made_batches)
    batch: dict[str, Any] = {
        "id": f"batch_{contents.token('made batch', count)}",
        "object": "batch",
        "endpoint": body.get("endpoint"),
        "errors": None,
        "input_file_id": file_id,
        "completion_window": body.get("completion_window") or "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": contents.now + count,
        "expires_at": contents.now + 86_400,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": body.get("metadata"),
        "_project": caller.place,
    }
    faults, answers = _run_batch(service, caller, content)
    if faults:
        batch |= {"status": "failed", "errors": {"object": "list", "data": faults}}
    else:
        batch["_output"] = _batch_output(service, caller, answers)
    service.made_batches[batch["id"]] = batch
    return public_fields(batch)


def _run_batch(
    service: OrganizationService, caller: Caller, content: bytes
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what is wrong with the lines of a batch, else the answers."""
    faults: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    seen: set[str] = set()
    models: set[str] = set()
    for number, line in enumerate(content.splitlines(), 1):
        try:
            one = json.loads(line)
            custom, body = str(one["custom_id"]), dict(one["body"])
        except (ValueError, KeyError, TypeError):
            fault = {"code": "invalid_json_line", "message": "This line is not parseable."}
            faults.append({**fault, "param": None, "line": number})
            continue
        models.add(str(body.get("model")))
        if custom in seen or len(models) > 1:
            code = "duplicate_custom_id" if custom in seen else "mismatched_model"
            fault = {"code": code, "message": f"Line {number} is refused: {code}."}
            faults.append({**fault, "param": "custom_id", "line": number})
        seen.add(custom)
        if not faults:
            answers.append(_batch_line(service, caller, custom, body, number))
    if any(".ft-" in service.deployments.get(one, one) for one in models):  # Azure's names
        message = "Fine-tuned models are not supported in batches."
        faults.append({"code": "model_mismatch", "message": message, "param": None, "line": None})
    return faults, answers


def _batch_line(
    service: OrganizationService, caller: Caller, custom: str, body: dict[str, Any], number: int
) -> dict[str, Any]:
    identity = f"batch_req_{service.contents.token('line', custom, number)}"
    try:
        if "prompt" in body:
            status, made = 200, _completion(service, caller, body)
        else:
            status, made = 200, service.chat(caller, body)
    except Refused as error:
        status, made = error.status, json.loads(refusal(error).body)
    response = {"status_code": status, "request_id": identity, "body": made}
    return {"id": identity, "custom_id": custom, "response": response, "error": None}


def _batch_output(
    service: OrganizationService, caller: Caller, answers: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the fields of a finished batch; its answers become files."""
    right = [one for one in answers if one["response"]["status_code"] == 200]  # noqa: PLR2004
    wrong = [one for one in answers if one["response"]["status_code"] != 200]  # noqa: PLR2004
    counts = {"total": len(answers), "completed": len(right), "failed": len(wrong)}
    fields: dict[str, Any] = {"request_counts": counts, "completed_at": service.contents.now}
    # Answers come in another order than their requests.
    for name, lines in (("output_file_id", right[::-1]), ("error_file_id", wrong)):
        if not lines:
            continue
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines).encode()
        file_id = f"file-{service.contents.token('batch file', len(service.uploaded))}"
        meta = {
            "object": "file",
            "id": file_id,
            "purpose": "batch_output",
            "filename": f"{file_id}.jsonl",
            "bytes": len(text),
            "created_at": service.contents.now,
            "expires_at": service.contents.now + 30 * 86_400,
            "status": "processed",
            "_project": caller.place,
        }
        service.uploaded[file_id] = (meta, text)
        fields[name] = file_id
    return fields
