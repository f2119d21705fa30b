"""How a recorded organisation answers a request: its key, its limits, its route, pages, faults.

A request comes in as plain data and an `Answer` goes out; sockets are the server's affair. What
each address answers stands in the modules `routes_…`, which add themselves to `ROUTES`.
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
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from .tasks import draw
from .training_facts import COMPLETION_BASES, SHUT, FineTuned, Quirks

if TYPE_CHECKING:
    from .answers import Answers
    from .contents import Contents

__all__ = [
    "DEPLOYED",
    "ROUTES",
    "Answer",
    "Caller",
    "OrganizationService",
    "Received",
    "Refused",
    "limit_of",
    "position_of",
    "refusal",
    "route",
]


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
DEPLOYED = r"(?:/deployments/(?P<deployment>[^/]+))?"
ROUTES: list[tuple[str, re.Pattern[str], _Handler]] = []


def route(method: str, pattern: str) -> Callable[[_Handler], _Handler]:
    """Return a decorator that makes a function the handler of an address.

    Args:
        method: The HTTP method.
        pattern: Regular expression of the path below the API's root.
    """
    compiled = re.compile(pattern)

    def add(handler: _Handler) -> _Handler:
        ROUTES.append((method, compiled, handler))
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
            found = refusal(error)
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
            refused = refusal(Refused(429, "Rate limit reached for requests", "rate_limit"))
            fields |= {"retry-after": str(max(1, round(wait))), "retry-after-ms": f"{wait * 1e3:g}"}
            raise _Limited(refused, fields)
        return fields

    def _fail_at_times(self, received: Received) -> None:
        share = self.quirks.server_errors
        if not share or received.method != "GET":
            return
        drawn = draw(10_000, "500", self.contents.seed, received.target)
        if drawn < share * 10_000 and self.is_first_time(f"500 {received.target}"):
            raise Refused(500, "The server had an error while processing your request.")

    def is_first_time(self, what: str) -> bool:
        """Return whether this is asked for the first time with these words."""
        with self._lock:
            self._seen[what] += 1
            return self._seen[what] == 1

    def _dispatch(self, caller: Caller, path: str) -> Answer:
        allowed = False
        for method, pattern, handler in ROUTES:
            found = pattern.fullmatch(path)
            if found is None:
                continue
            allowed = True
            if method == caller.received.method:
                plain = pattern.pattern.removeprefix(DEPLOYED)
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
        limit, after = limit_of(caller.query, default, most), caller.query.get("after")
        start = 0
        if after:
            start = position_of(ids, after) + 1
            if start == 0 or dead(start - 1):
                raise Refused(404, f"No such object: {after}", param="after")
        target = caller.received.target
        drawn = draw(12, "page", self.contents.seed, after)
        data: list[dict[str, Any]]
        empty = after and drawn == 0 and self.quirks.empty_pages and start < len(ids)
        if empty and self.is_first_time(f"empty {caller.project} {target}"):
            return {"object": "list", "data": [], "has_more": True} | _ends([], ends=ends)
        end = min(len(ids), start + limit)
        data = [make(at) for at in range(start, end)]
        if after and drawn == 1 and self.quirks.repeated_items and data:
            data.insert(0, make(start - 1))
        return {"object": "list", "data": data, "has_more": end < len(ids)} | _ends(data, ends=ends)

    def page_of(
        self,
        caller: Caller,
        objects: Sequence[dict[str, Any]],
        *,
        default: int,
        most: int,
        ends: bool = True,
    ) -> dict[str, Any]:
        """Return one page of a list whose objects are all at hand; see `page`."""
        ids = [one["id"] for one in objects]
        return self.page(caller, ids, objects.__getitem__, default=default, most=most, ends=ends)

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


def refusal(error: Refused) -> Answer:
    """Return an error in the service's form."""
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


def limit_of(query: Mapping[str, str], default: int, most: int) -> int:
    """Return how many objects a page has.

    Raises:
        Refused: The request's limit is none, or above `most`.
    """
    try:
        limit = int(query.get("limit") or default)
    except ValueError:
        limit = -1
    if not 0 <= limit <= most:
        raise Refused(400, f"limit is a number up to {most}.", param="limit")
    return limit or default


def position_of(ids: Sequence[str], wanted: str) -> int:
    """Return where an id stands; -1 if it does not."""
    try:
        return ids.index(wanted)
    except ValueError:
        return -1


def _ends(data: list[dict[str, Any]], *, ends: bool) -> dict[str, Any]:
    if not ends:
        return {}
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"first_id": first, "last_id": last}
