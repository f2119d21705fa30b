"""What a recorded organisation answers to each request: routes, keys, pages, faults.

A request comes in as plain data and an `Answer` goes out; sockets are the server's affair.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .answers import Answers, chat_chunks, text_completion
from .contents import COMPLETION_BASES, SHUT, Contents, FineTuned, Quirks
from .tasks import Task, draw

__all__ = ["Answer", "OrganizationService", "Received"]


@dataclass(frozen=True)
class Received:
    """One request.

    Attributes:
        headers: By lower-case name.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Answer:
    """One answer: a body as a whole, or events of a stream; and how it is spoiled.

    Attributes:
        cut: Send the headers of the whole body, but only half of it, and hang up.
        slow: Send the body in small pieces with pauses.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    stream: Iterator[bytes] | None = None
    cut: bool = False
    slow: bool = False


class Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """An error answer."""

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status: int = status
        self.message: str = message
        self.code: str | None = code
        self.param: str | None = param


@dataclass
class Caller:
    """Who sent a request, and what it asks.

    Attributes:
        project: The position of the project, None for an administrator's key.
    """

    project: int | None
    query: dict[str, str]
    received: Received

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object."""
        try:
            value = json.loads(self.received.body or b"{}")
        except ValueError:
            raise Refused(400, "We could not parse the JSON body of your request.") from None
        if not isinstance(value, dict):
            raise Refused(400, "The body is a JSON object.")
        return value

    @property
    def place(self) -> int:
        """The project; only routes for projects' keys ask for it."""
        if self.project is None:
            raise Refused(401, "An admin key cannot be used for this endpoint.", "invalid_key")
        return self.project


_Handler = Callable[["OrganizationService", Caller, "re.Match[str]"], "Answer | dict[str, Any]"]
# Azure's older addresses name the deployment.
_DEPLOYED = r"(?:/deployments/(?P<deployment>[^/]+))?"
_ROUTES: list[tuple[str, re.Pattern[str], _Handler]] = []


def _route(method: str, pattern: str) -> Callable[[_Handler], _Handler]:
    compiled = re.compile(pattern)

    def add(handler: _Handler) -> _Handler:
        _ROUTES.append((method, compiled, handler))
        return handler

    return add


class OrganizationService:
    """A recorded organisation, without its socket.

    Attributes:
        keys: A key for each project, by the project's id.
        admin_key: The administrator's key, which serves /organization alone.
        user_key: A key that sees every project, chosen by the field OpenAI-Project.
        requests: How often each route was asked, as "GET /files/{id}/content".
        recent: The last thousand requests, as "GET /v1/files?limit=2".
    """

    def __init__(self, contents: Contents, answers: Answers) -> None:
        self.contents: Contents = contents
        self.answers: Answers = answers
        token = contents.token
        self.keys: dict[str, str] = {
            project: f"sk-proj-SENTINEL-{token('key', project, length=40)}"
            for project in contents.projects
        }
        self.admin_key: str = f"sk-admin-SENTINEL-{token('admin', length=40)}"
        self.user_key: str = f"sk-user-SENTINEL-{token('user', length=40)}"
        self.requests: Counter[str] = Counter()
        self.recent: deque[str] = deque(maxlen=1000)
        self.deployments: dict[str, str] = {}
        self.uploaded: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.made_jobs: dict[str, dict[str, Any]] = {}
        self.made_batches: dict[str, dict[str, Any]] = {}
        self.made_stored: list[tuple[int, dict[str, Any], list[dict[str, Any]]]] = []
        self.learned: dict[str, dict[str, dict[str, Any]]] = {}
        self.deleted: set[str] = set()
        self._seen: Counter[str] = Counter()
        self._budgets: dict[str, tuple[float, float]] = {}
        self._lock = threading.RLock()
        if contents.service == "azure":
            names = [one.name for one in contents.models_of(0)]
            self.deployments = {f"deployment-{at}": name for at, name in enumerate(names[::2])}

    @property
    def quirks(self) -> Quirks:
        """How it misbehaves."""
        return self.contents.quirks

    def answer(self, received: Received) -> Answer:
        """Return the answer to a request; errors have the service's form."""
        with self._lock:
            self.recent.append(f"{received.method} {received.target}")
        identity = f"req_{hashlib.md5(received.target.encode()).hexdigest()}"  # noqa: S324 - no security
        limits: dict[str, str] = {}
        try:
            path, query = self._address(received)
            caller = self._caller(received, path, query)
            limits = self._limits(received)
            self._fail_at_times(received)
            found = self._dispatch(caller, path)
            if caller.project is not None and self.contents.service == "openai":
                found.headers["openai-project"] = self.contents.projects[caller.project]
        except Refused as error:
            found = _refusal(error)
        found.headers = {"x-request-id": identity, **limits, **found.headers}
        found.headers["openai-organization"] = "acme"
        found.headers["openai-version"] = "2020-10-01"
        return found

    def _address(self, received: Received) -> tuple[str, dict[str, str]]:
        parts = urlsplit(received.target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        path = parts.path
        if self.contents.service == "openai":
            if not path.startswith("/v1/"):
                raise Refused(404, f"Invalid URL ({received.method} {path})", "unknown_url")
            return path.removeprefix("/v1"), query
        if path.startswith("/openai/v1/"):
            return path.removeprefix("/openai/v1"), query
        if not path.startswith("/openai/"):
            raise Refused(404, "Resource not found", "404")
        if "api-version" not in query:
            raise Refused(404, "Resource not found: api-version is missing", "404")
        return path.removeprefix("/openai"), query

    def _caller(self, received: Received, path: str, query: dict[str, str]) -> Caller:
        bearer = received.headers.get("authorization", "").removeprefix("Bearer ")
        key = received.headers.get("api-key", "") if self.contents.service == "azure" else ""
        key = key or bearer
        administers = path.startswith(("/organization/", "/fine_tuning/checkpoints/"))
        if key == self.admin_key:
            if not administers:
                raise Refused(401, "An admin key cannot be used for this endpoint.", "invalid_key")
            return Caller(None, query, received)
        chosen = received.headers.get("openai-project")
        if key == self.user_key:
            project: str | None = chosen or self.contents.projects[0]
        else:
            project = next((one for one, own in self.keys.items() if own == key), None)
        if project is None or project not in self.contents.projects:
            raise Refused(401, f"Incorrect API key provided: {key[:7]}***.", "invalid_api_key")
        if chosen and chosen != project:
            raise Refused(401, "The project of OpenAI-Project is not that of the key.", "mismatch")
        if administers:
            message = "You have insufficient permissions for this operation: use an admin key."
            raise Refused(401, message, "missing_scope")
        return Caller(self.contents.projects.index(project), query, received)

    def _limits(self, received: Received) -> dict[str, str]:
        """Take one request from the key's budget; return the header fields that tell of it."""
        rate = self.quirks.requests_per_second
        if rate is None:
            return {}
        key = received.headers.get("api-key") or received.headers.get("authorization", "")
        with self._lock:
            now = time.monotonic()
            left, at = self._budgets.get(key, (rate, now))
            left = min(rate, left + (now - at) * rate)
            allowed = left >= 1
            left -= 1 if allowed else 0
            self._budgets[key] = (left, now)
        wait = max(0.0, (1 - left) / rate)
        fields = {
            "x-ratelimit-limit-requests": f"{rate:g}",
            "x-ratelimit-remaining-requests": str(int(left)),
            "x-ratelimit-reset-requests": f"{max(1, round(wait * 1000))}ms",
        }
        if not allowed:
            refused = _refusal(Refused(429, "Rate limit reached for requests", "rate_limit"))
            fields |= {"retry-after": str(max(1, round(wait))), "retry-after-ms": f"{wait * 1e3:g}"}
            raise _Limited(refused, fields)
        return fields

    def _fail_at_times(self, received: Received) -> None:
        share = self.quirks.server_errors
        if not share or received.method != "GET":
            return
        drawn = draw(10_000, "500", self.contents.seed, received.target)
        if drawn < share * 10_000 and self._first_time(f"500 {received.target}"):
            raise Refused(500, "The server had an error while processing your request.")

    def _first_time(self, what: str) -> bool:
        with self._lock:
            self._seen[what] += 1
            return self._seen[what] == 1

    def _dispatch(self, caller: Caller, path: str) -> Answer:
        allowed = False
        for method, pattern, handler in _ROUTES:
            found = pattern.fullmatch(path)
            if found is None:
                continue
            allowed = True
            if method == caller.received.method:
                plain = pattern.pattern.removeprefix(_DEPLOYED)
                shape = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", plain)
                with self._lock:
                    self.requests[f"{method} {shape}"] += 1
                value = handler(self, caller, found)
                return value if isinstance(value, Answer) else _json(value)
        if allowed:
            raise Refused(405, f"Not allowed to {caller.received.method} on {path}.")
        raise Refused(404, f"Invalid URL ({caller.received.method} {path})", "unknown_url")

    # Pages

    def page(
        self,
        caller: Caller,
        ids: Sequence[str],
        make: Callable[[int], dict[str, Any]],
        *,
        default: int,
        most: int,
        dead: Callable[[int], bool] = lambda _: False,
        ends: bool = True,
    ) -> dict[str, Any]:
        """Return one page of a list, with the quirks of pages.

        Args:
            caller: The request.
            ids: All ids, in order.
            make: Returns the object at a position.
            default: Objects per page if the request does not say.
            most: The most objects per page.
            dead: Whether the id at a position cannot be a cursor.
            ends: Whether the page has `first_id` and `last_id`.
        """
        limit, after = _limit(caller.query, default, most), caller.query.get("after")
        start = 0
        if after:
            start = _position(ids, after) + 1
            if start == 0 or dead(start - 1):
                raise Refused(404, f"No such object: {after}", param="after")
        target = caller.received.target
        drawn = draw(12, "page", self.contents.seed, after)
        data: list[dict[str, Any]]
        empty = after and drawn == 0 and self.quirks.empty_pages and start < len(ids)
        if empty and self._first_time(f"empty {caller.project} {target}"):
            return {"object": "list", "data": [], "has_more": True} | _ends([], ends=ends)
        end = min(len(ids), start + limit)
        data = [make(at) for at in range(start, end)]
        if after and drawn == 1 and self.quirks.repeated_items and data:
            data.insert(0, make(start - 1))
        return {"object": "list", "data": data, "has_more": end < len(ids)} | _ends(data, ends=ends)

    # Models

    def find_model(self, caller: Caller, name: str) -> FineTuned | str:
        """Return the model that a request names, a base as its name.

        Raises:
            Refused: It answers no more, or it is another project's.
        """
        if self.contents.service == "azure":
            if name not in self.deployments and name not in self.learned:
                message = "The API deployment for this resource does not exist."
                raise Refused(404, message, "DeploymentNotFound")
            name = self.deployments.get(name, name)
        if name in self.learned and name not in self.deleted:
            return name
        model = self.contents.fine_tuned(name)
        known = {one["id"] for one in self.contents.base_models()}
        if model is not None and model.project == caller.project:
            if model.is_alive and name not in self.deleted:
                return model
        elif (name in known or name.startswith(("gpt-", *COMPLETION_BASES))) and not (
            name.startswith(SHUT)
        ):
            return name
        message = f"The model `{name}` does not exist or you do not have access to it."
        raise Refused(404, message, "model_not_found")

    def chat(self, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
        """Return a chat completion for a body."""
        name = body.get("model")
        messages = body.get("messages")
        if not isinstance(name, str) or not isinstance(messages, list) or not messages:
            raise Refused(400, "you must provide a model and messages", param="messages")
        model = self.find_model(caller, name)
        task = model.task if isinstance(model, FineTuned) else None
        base = model.base if isinstance(model, FineTuned) else name
        if base in COMPLETION_BASES:
            problem = "This is not a chat model and thus not supported in this endpoint."
            raise Refused(404, problem, param="model")
        learned = self.learned.get(name, {})
        message = self.answers.message(name, task, messages, learned)
        with self._lock:
            self._seen["chat"] += 1
            count = self._seen["chat"]
        identity = f"chatcmpl-{self.contents.token('answer', count)}"
        made = self.answers.completion(body, identity, self.contents.now + count, message)
        if body.get("store"):
            with self._lock:
                self.made_stored.append((caller.place, made, messages))
        return made


class _Limited(Refused):
    """Too many requests: an answer with its own header fields."""

    def __init__(self, answer: Answer, fields: dict[str, str]) -> None:
        super().__init__(answer.status, "Rate limit reached for requests", "rate_limit_exceeded")
        self.fields = fields


def _refusal(error: Refused) -> Answer:
    kind = {401: "authentication_error", 429: "requests", 500: "server_error"}.get(error.status)
    body = {
        "message": error.message,
        "type": kind or "invalid_request_error",
        "param": error.param,
        "code": error.code,
    }
    fields = error.fields if isinstance(error, _Limited) else {}
    return Answer(error.status, json.dumps({"error": body}).encode(), _JSON | fields)


_JSON = {"content-type": "application/json"}


def _json(value: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps(value, ensure_ascii=False).encode(), dict(_JSON))


def _limit(query: Mapping[str, str], default: int, most: int) -> int:
    try:
        limit = int(query.get("limit") or default)
    except ValueError:
        limit = -1
    if not 0 <= limit <= most:
        raise Refused(400, f"limit is a number up to {most}.", param="limit")
    return limit or default


def _position(ids: Sequence[str], wanted: str) -> int:
    try:
        return ids.index(wanted)
    except ValueError:
        return -1


def _ends(data: list[dict[str, Any]], *, ends: bool) -> dict[str, Any]:
    if not ends:
        return {}
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"first_id": first, "last_id": last}


# Files


def _file_ids(service: OrganizationService, caller: Caller) -> tuple[list[str], list[int | None]]:
    contents, purpose = service.contents, caller.query.get("purpose")
    made = [
        (one, None)
        for one, (meta, _) in reversed(service.uploaded.items())
        if meta["_project"] == caller.place and purpose in (None, meta["purpose"])
    ]
    old = [
        (contents.file_id(one), one)
        for one in contents.files_of(caller.place)
        if purpose in (None, contents.purpose(one))
    ]
    pairs = [pair for pair in [*made, *old] if pair[0] not in service.deleted]
    if caller.query.get("order") == "asc":
        pairs.reverse()
    return [one for one, _ in pairs], [number for _, number in pairs]


@_route("GET", r"/files")
def _list_files(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    ids, numbers = _file_ids(service, caller)
    contents = service.contents

    def make(at: int) -> dict[str, Any]:
        number = numbers[at]
        return _public(service.uploaded[ids[at]][0]) if number is None else contents.file(number)

    def dead(at: int) -> bool:
        number = numbers[at]
        return number is not None and contents.fate(number) == "listed_only"

    return service.page(caller, ids, make, default=10_000, most=10_000, dead=dead)


def _public(meta: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in meta.items() if not name.startswith("_")}


def _number_of(service: OrganizationService, caller: Caller, file_id: str) -> int:
    """Return the position of one of the project's files that can be read.

    Raises:
        Refused: It is gone, or another project's.
    """
    number = service.contents.file_number(file_id)
    gone = number is None or file_id in service.deleted
    if not gone and number is not None:
        own = service.contents.file_project(number) == caller.project
        gone = not own or service.contents.fate(number) in {"deleted", "listed_only"}
    if gone or number is None:
        raise Refused(404, f"No such File object: {file_id}", param="id")
    return number


@_route("GET", r"/files/(?P<id>[^/]+)")
def _get_file(service: OrganizationService, caller: Caller, found: re.Match[str]) -> dict[str, Any]:
    file_id = unquote(found["id"])
    if (made := _uploaded(service, caller, file_id)) is not None:
        return _public(made[0])
    return service.contents.file(_number_of(service, caller, file_id))


@_route("DELETE", r"/files/(?P<id>[^/]+)")
def _delete_file(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    file_id = unquote(found["id"])
    if _uploaded(service, caller, file_id) is None:
        _number_of(service, caller, file_id)
    service.deleted.add(file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def _uploaded(
    service: OrganizationService, caller: Caller, file_id: str
) -> tuple[dict[str, Any], bytes] | None:
    made = service.uploaded.get(file_id)
    if made is None or made[0]["_project"] != caller.place or file_id in service.deleted:
        return None
    return made


@_route("GET", r"/files/(?P<id>[^/]+)/content")
def _file_content(service: OrganizationService, caller: Caller, found: re.Match[str]) -> Answer:
    file_id = unquote(found["id"])
    if (made := _uploaded(service, caller, file_id)) is not None:
        return _content(made[1])
    number = _number_of(service, caller, file_id)
    contents = service.contents
    fate = contents.fate(number)
    if fate == "expired":
        raise Refused(410, f"File {file_id} has expired.", "file_expired")
    if fate == "forbidden":
        raise Refused(403, "You do not have permission to read this file.", "forbidden")
    if service.quirks.free_account and contents.purpose(number) == "fine-tune":
        message = "To help mitigate abuse, downloading of fine-tune training files is disabled "
        raise Refused(400, message + "for free accounts.")
    answer = _content(contents.content(number))
    answer.cut = fate == "cut" and service._first_time(f"cut {file_id}")  # noqa: SLF001
    answer.slow = fate == "slow"
    return answer


def _content(body: bytes) -> Answer:
    tag = hashlib.sha256(body).hexdigest()[:32]
    return Answer(200, body, {"content-type": "application/octet-stream", "etag": f'"{tag}"'})


@_route("POST", r"/files")
def _create_file(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    fields = _form(caller.received)
    if "file" not in fields:
        raise Refused(400, "'file' is a required property", param="file")
    name, body = fields["file"]
    file_id = f"file-{service.contents.token('uploaded', len(service.uploaded))}"
    made: dict[str, Any] = {
        "object": "file",
        "id": file_id,
        "purpose": fields.get("purpose", ("", b"fine-tune"))[1].decode(),
        "filename": name or "file",
        "bytes": len(body),
        "created_at": service.contents.now + len(service.uploaded),
        "expires_at": None,
        "status": "processed",
        "status_details": None,
        "_project": caller.place,
    }
    service.uploaded[file_id] = (made, body)
    return _public(made)


def _form(received: Received) -> dict[str, tuple[str, bytes]]:
    """Return the fields of a multipart form: file name and content by name."""
    found = re.search(r'boundary="?([^";]+)', received.headers.get("content-type", ""))
    if found is None:
        raise Refused(400, "The body is no multipart form.")
    fields: dict[str, tuple[str, bytes]] = {}
    for part in received.body.split(b"--" + found[1].encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        names = dict(re.findall(r'(\w+)="([^"]*)"', head.decode("utf-8", "replace")))
        if "name" in names:
            fields[names["name"]] = (names.get("filename", ""), content.removesuffix(b"\r\n"))
    return fields


# Jobs


def _job_number(service: OrganizationService, caller: Caller, job_id: str, *, legacy: bool) -> int:
    contents = service.contents
    number = contents.job_number(job_id)
    if (
        number is None
        or (number < contents.legacy_count) != legacy
        or contents.job_project(number) != caller.project
    ):
        what = "fine-tune" if legacy else "fine-tuning job"
        raise Refused(404, f"Could not find {what}: {job_id}", "fine_tune_not_found", "id")
    return number


@_route("GET", r"/fine_tuning/jobs")
def _list_jobs(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    contents = service.contents
    made = [
        one for one, job in reversed(service.made_jobs.items()) if job["_project"] == caller.place
    ]
    numbers = contents.jobs_of(caller.place, legacy=False)
    ids = [*made, *map(contents.job_id, numbers)]

    def make(at: int) -> dict[str, Any]:
        if at < len(made):
            return _public(service.made_jobs[made[at]])
        return contents.job(numbers[at - len(made)])

    return service.page(caller, ids, make, default=20, most=100, ends=False)


@_route("GET", r"/fine_tuning/jobs/(?P<id>[^/]+)")
def _get_job(service: OrganizationService, caller: Caller, found: re.Match[str]) -> dict[str, Any]:
    made = service.made_jobs.get(found["id"])
    if made is not None and made["_project"] == caller.place:
        return _public(made)
    return service.contents.job(_job_number(service, caller, found["id"], legacy=False))


@_route("POST", r"/fine_tuning/jobs")
def _create_job(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    body, contents = caller.json, service.contents
    file_id = body.get("training_file")
    made = _uploaded(service, caller, str(file_id))
    if made is None:
        _number_of(service, caller, str(file_id))
    count = len(service.made_jobs)
    suffix, token = body.get("suffix") or "", contents.token("made", count, length=8)
    name = f"ft:{body.get('model')}:acme:{suffix}:{token}"
    job: dict[str, Any] = {
        **contents.job(contents.legacy_count),
        "id": f"ftjob-{contents.token('made job', count, length=24)}",
        "model": body.get("model"),
        "created_at": contents.now + count,
        "finished_at": contents.now + count,
        "fine_tuned_model": name,
        "result_files": [],
        "status": "succeeded",
        "training_file": file_id,
        "validation_file": body.get("validation_file"),
        "seed": body.get("seed") or 1,
        "metadata": body.get("metadata") or {},
        "integrations": [],
        "user_provided_suffix": suffix or None,
        "_project": caller.place,
    }
    service.made_jobs[job["id"]] = job
    service.learned[name] = dict(_learned(made[1] if made else b""))
    return _public(job)


def _learned(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the answers of a training file by the user's last message."""
    for line in content.decode("utf-8-sig", "replace").splitlines():
        try:
            messages = json.loads(line)["messages"]
            asked = [one for one in messages if one["role"] == "user"][-1]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            continue
        if isinstance(asked, str) and messages[-1]["role"] == "assistant":
            yield asked, messages[-1]


@_route("GET", r"/fine_tuning/jobs/(?P<id>[^/]+)/events")
def _list_events(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    if found["id"] in service.made_jobs:
        return {"object": "list", "data": [], "has_more": False}
    events = service.contents.events(_job_number(service, caller, found["id"], legacy=False))
    ids = [one["id"] for one in events]
    return service.page(caller, ids, events.__getitem__, default=20, most=100, ends=False)


@_route("GET", r"/fine_tuning/jobs/(?P<id>[^/]+)/checkpoints")
def _list_checkpoints(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    if found["id"] in service.made_jobs:
        return {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}
    number = _job_number(service, caller, found["id"], legacy=False)
    points = service.contents.checkpoints(number)
    ids = [one["id"] for one in points]
    return service.page(caller, ids, points.__getitem__, default=10, most=100)


@_route("GET", r"/fine_tuning/checkpoints/(?P<name>[^/]+)/permissions")
def _list_permissions(_: OrganizationService, __: Caller, ___: Any) -> dict[str, Any]:
    return {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}


def _check_legacy(service: OrganizationService) -> None:
    if not service.quirks.legacy_api or service.contents.service != "openai":
        raise Refused(404, "Invalid URL (GET /v1/fine-tunes)", "unknown_url")


@_route("GET", r"/fine-tunes")
def _list_fine_tunes(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    _check_legacy(service)
    numbers = service.contents.jobs_of(caller.place, legacy=True)
    tunes = [service.contents.fine_tune(one, events=False) for one in numbers]
    return {"object": "list", "data": tunes}


@_route("GET", r"/fine-tunes/(?P<id>[^/]+)")
def _get_fine_tune(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    _check_legacy(service)
    return service.contents.fine_tune(_job_number(service, caller, found["id"], legacy=True))


@_route("GET", r"/fine-tunes/(?P<id>[^/]+)/events")
def _list_legacy_events(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    _check_legacy(service)
    number = _job_number(service, caller, found["id"], legacy=True)
    return {"object": "list", "data": service.contents.legacy_events(number)}


# Models and answers


@_route("GET", r"/models")
def _list_models(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    contents = service.contents
    tuned = [
        contents.model(one)
        for one in contents.models_of(caller.place)
        if one.name not in service.deleted
    ]
    made = [
        {"id": job["fine_tuned_model"], "object": "model", "created": job["created_at"]}
        | {"owned_by": contents.organization_id}
        for job in service.made_jobs.values()
        if job["_project"] == caller.place
    ]
    return {"object": "list", "data": [*contents.base_models(), *tuned, *made]}


@_route("GET", r"/models/(?P<name>[^/]+)")
def _get_model(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    wanted = unquote(found["name"])
    for one in _list_models(service, caller, found)["data"]:  # type: ignore[index]  # a page
        if one["id"] == wanted:
            return dict(one)
    message = f"The model '{wanted}' does not exist"
    raise Refused(404, message, "model_not_found", "model")


@_route("DELETE", r"/models/(?P<name>[^/]+)")
def _delete_model(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    name = unquote(found["name"])
    service.find_model(caller, name)
    service.deleted.add(name)
    return {"id": name, "object": "model", "deleted": True}


@_route("POST", _DEPLOYED + r"/chat/completions")
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


@_route("POST", _DEPLOYED + r"/completions")
def _complete(service: OrganizationService, caller: Caller, found: re.Match[str]) -> Any:
    body = caller.json
    if found["deployment"]:
        body = {**body, "model": unquote(found["deployment"])}
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
    made = text_completion(body, f"cmpl-{len(texts)}", service.contents.now, texts)
    if not body.get("stream"):
        return made
    return Answer(200, headers={"content-type": "text/event-stream"}, stream=_events(iter([made])))


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


@_route("GET", r"/chat/completions")
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


@_route("GET", r"/chat/completions/(?P<id>[^/]+)")
def _get_stored(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    return _stored_at(service, caller.place, _stored_position(service, caller, found["id"]))


@_route("GET", r"/chat/completions/(?P<id>[^/]+)/messages")
def _list_messages(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    identity = found["id"]
    at = _stored_position(service, caller, identity)
    messages = [
        {"id": f"{identity}-{index}", "name": None, **one}
        for index, one in enumerate(_stored_messages(service, caller.place, at))
    ]
    ids = [one["id"] for one in messages]
    return service.page(caller, ids, messages.__getitem__, default=20, most=100)


# Batches


def _batches(service: OrganizationService, caller: Caller) -> list[dict[str, Any]]:
    made = [one for one in service.made_batches.values() if one["_project"] == caller.place]
    pairs = service.contents.batch_pairs(caller.place)
    return [*made[::-1], *(service.contents.batch(*pair) for pair in pairs)]


@_route("GET", r"/batches")
def _list_batches(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    found = [_public(one) for one in _batches(service, caller)]
    ids = [one["id"] for one in found]
    return service.page(caller, ids, found.__getitem__, default=20, most=100)


def _batch(service: OrganizationService, caller: Caller, identity: str) -> dict[str, Any]:
    for one in _batches(service, caller):
        if one["id"] == identity:
            return one
    raise Refused(404, f"No batch found with id '{identity}'.")


@_route("GET", r"/batches/(?P<id>[^/]+)")
def _get_batch(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    batch = _batch(service, caller, found["id"])
    # One that was made here is done when it is asked for the second time.
    if "_output" in batch and batch["status"] in {"validating", "in_progress"}:
        batch["status"] = "in_progress" if batch["status"] == "validating" else "completed"
        if batch["status"] == "completed":
            batch |= batch.pop("_output")
    return _public(batch)


@_route("POST", r"/batches/(?P<id>[^/]+)/cancel")
def _cancel_batch(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    batch = _batch(service, caller, found["id"])
    if batch["status"] in {"validating", "in_progress"}:
        batch |= {"status": "cancelled", "cancelled_at": service.contents.now}
    return _public(batch)


@_route("POST", r"/batches")
def _create_batch(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    body, contents = caller.json, service.contents
    file_id = str(body.get("input_file_id"))
    made = _uploaded(service, caller, file_id)
    content = made[1] if made else contents.content(_number_of(service, caller, file_id))
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
    return _public(batch)


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
    if service.contents.service == "azure" and any(".ft-" in one for one in models):
        message = "Fine-tuned models are not supported in batches."
        faults.append({"code": "model_mismatch", "message": message, "param": None, "line": None})
    return faults, answers


def _batch_line(
    service: OrganizationService, caller: Caller, custom: str, body: dict[str, Any], number: int
) -> dict[str, Any]:
    identity = f"batch_req_{service.contents.token('line', custom, number)}"
    try:
        status, made = 200, service.chat(caller, body)
    except Refused as error:
        status, made = error.status, json.loads(_refusal(error).body)
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


# Evals


def _eval_position(service: OrganizationService, caller: Caller, found: re.Match[str]) -> int:
    if service.quirks.evals_closed:
        raise Refused(410, "The Evals API has been shut down.", "endpoint_removed")
    position = _position(service.contents.eval_ids(caller.place), found["eval"])
    if position < 0:
        raise Refused(404, f"Eval {found['eval']} not found.")
    return position


def _run_position(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> tuple[int, int]:
    position = _eval_position(service, caller, found)
    run = _position(service.contents.eval_run_ids(caller.place, position), found["run"])
    if run < 0:
        raise Refused(404, f"Run {found['run']} not found.")
    return position, run


@_route("GET", r"/evals")
def _list_evals(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    if service.quirks.evals_closed:
        raise Refused(410, "The Evals API has been shut down.", "endpoint_removed")
    ids = service.contents.eval_ids(caller.place)

    def make(at: int) -> dict[str, Any]:
        return service.contents.eval(caller.place, at)

    return service.page(caller, ids, make, default=20, most=100)


@_route("GET", r"/evals/(?P<eval>[^/]+)")
def _get_eval(service: OrganizationService, caller: Caller, found: re.Match[str]) -> dict[str, Any]:
    return service.contents.eval(caller.place, _eval_position(service, caller, found))


@_route("GET", r"/evals/(?P<eval>[^/]+)/runs")
def _list_runs(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    position = _eval_position(service, caller, found)
    ids = service.contents.eval_run_ids(caller.place, position)

    def make(at: int) -> dict[str, Any]:
        return service.contents.eval_run(caller.place, position, at)

    return service.page(caller, ids, make, default=20, most=100)


@_route("GET", r"/evals/(?P<eval>[^/]+)/runs/(?P<run>[^/]+)")
def _get_run(service: OrganizationService, caller: Caller, found: re.Match[str]) -> dict[str, Any]:
    position, run = _run_position(service, caller, found)
    return service.contents.eval_run(caller.place, position, run)


@_route("GET", r"/evals/(?P<eval>[^/]+)/runs/(?P<run>[^/]+)/output_items")
def _list_items(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    position, run = _run_position(service, caller, found)
    items = [
        service.contents.eval_item(caller.place, position, run, item)
        for item in range(service.contents.eval_item_count)
    ]
    ids = [one["id"] for one in items]
    return service.page(caller, ids, items.__getitem__, default=20, most=100)


@_route("GET", r"/evals/(?P<eval>[^/]+)/runs/(?P<run>[^/]+)/output_items/(?P<item>[^/]+)")
def _get_item(service: OrganizationService, caller: Caller, found: re.Match[str]) -> dict[str, Any]:
    position, run = _run_position(service, caller, found)
    for item in range(service.contents.eval_item_count):
        one = service.contents.eval_item(caller.place, position, run, item)
        if one["id"] == found["item"]:
            return one
    raise Refused(404, f"Output item {found['item']} not found.")


# The organisation


@_route("GET", r"/organization/projects")
def _list_projects(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    contents = service.contents
    ids = list(contents.projects)
    if caller.query.get("include_archived") == "true":
        ids.append(contents.archived_project)
    return service.page(caller, ids, contents.project_object, default=20, most=100)


def _project_position(service: OrganizationService, found: re.Match[str]) -> int:
    contents = service.contents
    position = _position([*contents.projects, contents.archived_project], found["project"])
    if position < 0:
        raise Refused(404, f"Project {found['project']} not found.")
    return position


@_route("GET", r"/organization/projects/(?P<project>[^/]+)")
def _get_project(service: OrganizationService, _: Caller, found: re.Match[str]) -> dict[str, Any]:
    return service.contents.project_object(_project_position(service, found))


@_route("GET", r"/organization/projects/(?P<project>[^/]+)/rate_limits")
def _list_limits(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    _project_position(service, found)
    limits = service.contents.rate_limits()
    ids = [one["id"] for one in limits]
    return service.page(caller, ids, limits.__getitem__, default=100, most=100)


def _days(service: OrganizationService, caller: Caller) -> tuple[list[int], str | None]:
    """Return the days of one page of usage, and the page after it."""
    try:
        start = int(caller.query["start_time"])
        first = int(caller.query.get("page", "page_0").removeprefix("page_"))
    except (KeyError, ValueError):
        raise Refused(400, "start_time is a Unix time.", param="start_time") from None
    end = int(caller.query.get("end_time") or service.contents.now)
    days = list(range(start // 86_400, end // 86_400))
    limit = _limit(caller.query, 7, 180)
    following = first + limit
    return days[first:following], f"page_{following}" if following < len(days) else None


def _buckets(days: list[int], results: Callable[[int], Any], following: str | None) -> Any:
    data = [
        {"object": "bucket", "start_time": day * 86_400, "end_time": (day + 1) * 86_400}
        | {"results": results(day)}
        for day in days
    ]
    more = following is not None
    return {"object": "page", "data": data, "has_more": more, "next_page": following}


@_route("GET", r"/organization/costs")
def _costs(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    days, following = _days(service, caller)
    contents = service.contents

    def results(day: int) -> list[dict[str, Any]]:
        return [contents.cost_bucket(day, at) for at in range(len(contents.projects))]

    found: dict[str, Any] = _buckets(days, results, following)
    return found


@_route("GET", r"/organization/usage/completions")
def _usage(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    days, following = _days(service, caller)
    contents = service.contents
    models = [one for at in range(len(contents.projects)) for one in contents.models_of(at)]

    def results(day: int) -> list[dict[str, Any]]:
        return [
            {
                "object": "organization.usage.completions.result",
                "input_tokens": 100,
                "output_tokens": 10,
                "num_model_requests": 1 + draw(50, day, one.name),
                "project_id": contents.projects[one.project],
                "model": one.name,
            }
            for one in models
            if draw(9, "used", one.name, day) == 0
        ]

    found: dict[str, Any] = _buckets(days, results, following)
    return found
