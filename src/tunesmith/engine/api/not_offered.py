"""What to say at an address that this engine does not have: what to use, or how to spell it.

Knows addresses of the hosted service that programs call of their own accord, and base URLs that
lack `/v1` or have it twice.
"""

from __future__ import annotations

__all__ = ["advice_for"]

_INSTEAD: dict[str, str] = {
    "responses": "The responses API is not offered here: use /v1/chat/completions. Programs that "
    "know both have a setting for it, often a model class or function with 'chat' in its name.",
    "embeddings": "Embeddings are not offered here: the models of this engine generate text. Use "
    "another provider, or a local embedding model, for embeddings.",
    "moderations": "Moderation is not offered here: nothing is filtered. Switch it off in the "
    "program, or use another provider for it.",
    "images": "The models of this engine write text only, no images.",
    "audio": "The models of this engine read and write text only, no audio.",
    "videos": "The models of this engine write text only, no videos.",
    "realtime": "The realtime API is not offered here: use /v1/chat/completions with stream=true.",
    "batches": "Batches are not offered here: send the requests to /v1/chat/completions or "
    "/v1/completions, several at a time; they are computed together.",
    "assistants": "The assistants API is not offered here: use /v1/chat/completions.",
    "threads": "The assistants API is not offered here: use /v1/chat/completions.",
    "conversations": "Conversations are not stored here: send all messages to "
    "/v1/chat/completions.",
    "vector_stores": "Vector stores are not offered here: search in the program, and put what was "
    "found into the messages.",
    "evals": "Evals are not offered here: score answers with graders "
    "(/v1/fine_tuning/alpha/graders/run), or a model with lm-eval or inspect-ai.",
    "organization": "Organisations and projects are not managed over the API here: "
    "`tunesmith keys` on the engine's machine makes and revokes the keys of an organisation.",
    "containers": "Containers are not offered here: run tools in the program.",
    "chatkit": "ChatKit is not offered here: use /v1/chat/completions.",
    "skills": "Skills are not offered here: put what a model has to know into the messages.",
    "edits": "Edits were withdrawn by the hosted service and are not offered here: use "
    "/v1/chat/completions.",
}
_ADDRESSES = {
    "fine_tuning": "The fine-tuning API here has /v1/fine_tuning/jobs, "
    "/v1/fine_tuning/checkpoints/MODEL/permissions and /v1/fine_tuning/alpha/graders.",
    "fine-tunes": "The legacy API here has /v1/fine-tunes, /v1/fine-tunes/ID, …/events and "
    "…/cancel.",
    "exports": "Exports of models have /v1/exports, /v1/exports/ID, …/content and …/cancel.",
    "chat": "Chat has one address here, /v1/chat/completions, and those of stored completions "
    "below it.",
}
_RESOURCES = (
    *("chat", "completions", "exports", "files", "fine-tunes", "fine_tuning", "models"),
    *_INSTEAD,
)


def advice_for(path: str) -> str | None:
    """Return what to do instead of asking for `path`, a path that has no route; None if unknown."""
    parts = [part for part in path.split("/") if part]
    resource = next((part for part in parts if part != "v1"), "")
    if resource not in _RESOURCES:
        return None
    if parts[0] != "v1":
        return "The base URL of this engine ends in /v1: add that to the program's setting."
    if parts[1] == "v1":
        return "The path has /v1 twice: the base URL of this engine ends in one /v1."
    return _INSTEAD.get(resource) or _ADDRESSES.get(resource)
