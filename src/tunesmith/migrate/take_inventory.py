"""What an organisation has at a service: its fine-tuned models, and what can still be fetched.

Nothing is downloaded: whether a file can be had is asked for one byte of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal, overload

from tunesmith._lazy import set_public_module
from tunesmith.core.flow import Flow, gather
from tunesmith.core.request import fill_path
from tunesmith.errors import APIError, AuthenticationError

from .archive import Gap, Status
from .remote import Remote, Throttle, reason_of, status_of
from .shutdown_dates import Shutdown, base_model, shutdown_of
from .sources import Source, open_sources, service_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from tunesmith.client import AsyncClient, Client

__all__ = ["Inventory", "InventoryFile", "InventoryModel", "inventory"]

_PAGE, _FILE_PAGE = 100, 1000
_DAY = 86_400
# Days of use and of costs that are looked at.
_USE_DAYS = 90
_USE_PAGES = 10


@dataclass(frozen=True, slots=True)
class InventoryFile:
    """A file that a job names.

    Attributes:
        id: "file-…".
        status: "ok" if its content can be fetched; else why not.
        bytes: Its size; None if its object is gone.
        http_status: What the service answered where it cannot be fetched.
        message: What it said there.
    """

    id: str
    status: Status
    bytes: int | None
    http_status: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class InventoryModel:
    """A fine-tuned model, and the job that it came from.

    Attributes:
        name: Its name.
        project: The id of its project.
        base: The model that it was trained on.
        answers: Whether the service lists it among its models.
        shutdown: When the service ends it; None if no date is known.
        days_left: The days until then, 0 or less if the date has passed.
        job: Id of its job; None if the service lists the model and no job.
        method: "supervised", "dpo", "reinforcement"; "legacy" for a fine-tune of the old API.
        created: When its job was made, in Unix seconds.
        last_use: The last day on which it was used, as far as it is known: from the usage that an
            administrator's key reads, else from stored completions.
        training_file: The file that it was trained on.
        validation_file: Its file for validation.
        trained_tokens: The tokens that were trained on.
    """

    name: str
    project: str
    base: str
    answers: bool
    shutdown: Shutdown | None
    days_left: int | None
    job: str | None
    method: str | None
    created: int | None
    last_use: date | None
    training_file: InventoryFile | None
    validation_file: InventoryFile | None
    trained_tokens: int | None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What an organisation has.

    Attributes:
        service: "openai" or "azure".
        projects: Their ids.
        models: The fine-tuned models, those that end first in front.
        counts: Numbers of files by purpose, jobs by status, and files by what became of them.
        costs: What fine-tuning cost in the last 90 days, by project and currency; None without an
            administrator's key.
        gaps: What could not be asked, and why.
    """

    service: Literal["openai", "azure"]
    projects: list[str]
    models: list[InventoryModel]
    counts: dict[str, dict[str, int]]
    costs: dict[str, dict[str, float]] | None = None
    gaps: list[Gap] = field(default_factory=list[Gap])

    def to_dict(self) -> dict[str, Any]:
        """Return the inventory as JSON-ready data."""
        content = asdict(self)
        for one in content["models"]:
            one["last_use"] = one["last_use"] and one["last_use"].isoformat()
            if one["shutdown"] is not None:
                one["shutdown"]["on"] = one["shutdown"]["on"].isoformat()
        return content


@overload
def inventory(
    client: Client,
    *,
    projects: Mapping[str, str] | Sequence[str] | None = None,
    workers: int = 8,
    today: date | None = None,
) -> Inventory: ...
@overload
def inventory(
    client: AsyncClient,
    *,
    projects: Mapping[str, str] | Sequence[str] | None = None,
    workers: int = 8,
    today: date | None = None,
) -> Coroutine[Any, Any, Inventory]: ...
def inventory(
    client: Client | AsyncClient,
    *,
    projects: Mapping[str, str] | Sequence[str] | None = None,
    workers: int = 8,
    today: date | None = None,
) -> Inventory | Coroutine[Any, Any, Inventory]:
    """Return what an organisation has at a service, and what of it can still be fetched.

    Args:
        client: A client of the service, `AzureClient` for Azure; an asynchronous one gives a
            coroutine. An administrator's key adds the other projects, the days of use and costs.
        projects: A key for each project, by the project's id; or the ids of projects that the
            client's own key opens. By default the project of the client's key.
        workers: Requests at a time.
        today: The day that days are counted from; default: today in UTC.

    Raises:
        AuthenticationError: The service refuses a key.
        APIConnectionError: The service cannot be reached.
    """
    executor: Any = client._executor  # noqa: SLF001 - as the resources of the client do
    day = today or datetime.now(UTC).date()
    flow = _inventory(executor.settings, projects, workers, day)
    result: Inventory | Coroutine[Any, Any, Inventory] = executor.run(flow)
    return result


def _inventory(
    settings: Any, projects: Mapping[str, str] | Sequence[str] | None, workers: int, today: date
) -> Flow[Inventory]:
    sources = yield from open_sources(settings, projects, workers)
    service = service_of(settings)
    found = Inventory(
        service,
        [source.project for source in sources.opened],
        [],
        {"files": {}, "jobs": {}, "contents": {}},
        None if settings.admin_key is None or service == "azure" else {},
        sources.gaps,
    )
    used: dict[str, date] = {}
    if found.costs is not None:
        remote = Remote(settings, Throttle(), workers)
        yield from _read_use(remote, today, used, found)
        yield from _read_costs(remote, today, found)
    for source in sources.opened:
        yield from _ProjectInventory(source, found, used, workers, today).run()
    found.models.sort(key=lambda one: (one.days_left is None, one.days_left or 0, one.name))
    return found


def _read_use(remote: Remote, today: date, used: dict[str, date], found: Inventory) -> Flow[None]:
    """Note the last day on which each model was used."""
    query = {"group_by": ["model"], "bucket_width": "1d", "limit": 31}
    buckets = yield from _buckets(remote, "/organization/usage/completions", query, today, found)
    for bucket in buckets:
        day = datetime.fromtimestamp(bucket.get("start_time") or 0, UTC).date()
        for one in bucket.get("results") or []:
            name = one.get("model")
            if name and (one.get("num_model_requests") or one.get("input_tokens")):
                used[name] = max(day, used.get(name, day))


def _read_costs(remote: Remote, today: date, found: Inventory) -> Flow[None]:
    """Add up what fine-tuning cost."""
    query = {"group_by": ["project_id", "line_item"], "limit": 90}
    buckets = yield from _buckets(remote, "/organization/costs", query, today, found)
    costs = {} if found.costs is None else found.costs
    for bucket in buckets:
        for one in bucket.get("results") or []:
            amount, item = one.get("amount") or {}, str(one.get("line_item") or "")
            if "ft-" in item or "ft:" in item or "fine" in item.lower():
                sums = costs.setdefault(str(one.get("project_id")), {})
                currency = str(amount.get("currency") or "usd")
                total = sums.get(currency, 0.0) + float(amount.get("value") or 0)
                sums[currency] = round(total, 2)


def _buckets(
    remote: Remote, path: str, query: dict[str, Any], today: date, found: Inventory
) -> Flow[list[dict[str, Any]]]:
    end = int(datetime(today.year, today.month, today.day, tzinfo=UTC).timestamp()) + _DAY
    query = {"start_time": end - _USE_DAYS * _DAY, "end_time": end, **query}
    buckets: list[dict[str, Any]] = []
    for _ in range(_USE_PAGES):
        try:
            page = yield from remote.get(path, query)
        except APIError as error:
            code, message = reason_of(error)
            found.gaps.append(Gap(path, path, "usage", status_of(error), code, message))
            break
        buckets += page.get("data") or []
        if not page.get("has_more") or not page.get("next_page"):
            break
        query = {**query, "page": page["next_page"]}
    return buckets


class _ProjectInventory:
    """One project while it is looked through.

    Args:
        source: Where it is read.
        found: What is added to.
        used: The last day on which each model was used, as far as it is known.
        workers: Flows at a time.
        today: The day that days are counted from.
    """

    def __init__(
        self, source: Source, found: Inventory, used: dict[str, date], workers: int, today: date
    ) -> None:
        self._remote = source.remote
        self._project = source.project
        self._found = found
        self._used = used
        self._workers = max(1, workers)
        self._today = today
        self._files: dict[str, tuple[int | None, object]] = {}
        self._checked: dict[str, InventoryFile] = {}
        self._announced: dict[str, str | None] = {}

    def run(self) -> Flow[None]:
        """Read models, files and jobs of the project."""
        yield from self._read_models()
        yield from self._list("/files", self._take_files, limit=_FILE_PAGE)
        jobs: list[dict[str, Any]] = []

        def take(page: list[dict[str, Any]]) -> Flow[None]:
            # Of thousands of jobs only what the inventory shows is kept.
            jobs.extend(map(_shown, page))
            yield from ()

        yield from self._list("/fine_tuning/jobs", take, limit=_PAGE)
        if self._found.service == "openai":  # Azure never had the older API
            yield from self._list("/fine-tunes", take, limit=_PAGE)
        self._count("jobs", (str(job["status"]) for job in jobs))
        trained = [job for job in jobs if job["name"]]
        wanted = {one for job in trained for one in (job["training"], job["validation"]) if one}
        yield from gather(map(self._check, sorted(wanted)), self._workers)
        self._count("contents", (one.status for one in self._checked.values()))
        if any(job["name"] not in self._used for job in trained):
            yield from self._list("/chat/completions", self._take_stored, limit=_PAGE)
        for job in trained:
            self._found.models.append(self._model(job["name"], job))
        named = {job["name"] for job in trained}
        for name in self._announced.keys() - named:
            if base_model(name) != name:
                self._found.models.append(self._model(name, None))

    def _count(self, what: str, values: Any) -> None:
        total = Counter(self._found.counts[what])
        total.update(values)
        self._found.counts[what] = dict(sorted(total.items()))

    def _list(self, path: str, take: Any, **options: Any) -> Flow[None]:
        try:
            listing = yield from self._remote.pages(path, take, **options)
        except AuthenticationError:
            raise
        except APIError as error:
            self._gap(path, status_of(error), *reason_of(error))
            return
        if listing.problem is not None:
            self._gap(path, "partial", None, listing.problem)

    def _gap(self, path: str, status: Status, code: int | None, message: str) -> None:
        what = path.rpartition("/")[2]
        self._found.gaps.append(Gap(f"projects/{self._project}", path, what, status, code, message))

    def _read_models(self) -> Flow[None]:
        page = yield from self._remote.get("/models")
        for one in page.get("data") or []:
            self._announced[str(one.get("id"))] = one.get("shutdown_date")

    def _take_files(self, files: list[dict[str, Any]]) -> Flow[None]:
        for file in files:
            size = file.get("bytes")
            known = size if isinstance(size, int) else None
            self._files[str(file["id"])] = known, file.get("expires_at")
        self._count("files", (str(file.get("purpose")) for file in files))
        yield from ()

    def _take_stored(self, page: list[dict[str, Any]]) -> Flow[None]:
        for one in page:
            name, created = str(one.get("model")), one.get("created")
            if isinstance(created, int):
                day = datetime.fromtimestamp(created, UTC).date()
                self._used[name] = max(day, self._used.get(name, day))
        yield from ()

    def _check(self, file_id: str) -> Flow[None]:
        """Find out whether a file's content can be fetched."""
        size, expires_at = self._files.get(file_id, (None, None))
        try:
            if file_id not in self._files:
                file = yield from self._remote.get(fill_path("/files/{id}", id=file_id))
                size, expires_at = file.get("bytes"), file.get("expires_at")
            yield from self._remote.can_read(fill_path("/files/{id}/content", id=file_id))
        except AuthenticationError:
            raise
        except APIError as error:
            status, reason = status_of(error, expires_at), reason_of(error)
            self._checked[file_id] = InventoryFile(file_id, status, size, *reason)
        else:
            self._checked[file_id] = InventoryFile(file_id, "ok", size)

    def _model(self, name: str, job: dict[str, Any] | None) -> InventoryModel:
        announced, base = self._announced.get(name), base_model(name)
        shutdown = shutdown_of(name, service=self._found.service, announced=announced)
        if shutdown is None:
            # A name may hide its base; the service may know when that ends.
            base_date = self._announced.get(base)
            shutdown = shutdown_of(base, service=self._found.service, announced=base_date)
        own = job or dict.fromkeys(("id", "base", "method", "created", "tokens"))
        return InventoryModel(
            name=name,
            project=self._project,
            base=own["base"] or base,
            answers=name in self._announced,
            shutdown=shutdown,
            days_left=None if shutdown is None else shutdown.days_left(self._today),
            job=own["id"],
            method=own["method"],
            created=own["created"],
            last_use=self._used.get(name),
            training_file=self._checked.get(own.get("training") or ""),
            validation_file=self._checked.get(own.get("validation") or ""),
            trained_tokens=own["tokens"],
        )


def _shown(job: dict[str, Any]) -> dict[str, Any]:
    """Return what the inventory keeps of a job of either API."""
    legacy = str(job.get("object")) == "fine-tune"
    method = "legacy" if legacy else (job.get("method") or {}).get("type") or "supervised"
    return {
        "id": str(job["id"]),
        "status": job.get("status"),
        "name": job.get("fine_tuned_model"),
        "base": job.get("model"),
        "method": method,
        "created": job.get("created_at"),
        "tokens": job.get("trained_tokens"),
        "training": _first(job.get("training_file"), job.get("training_files")),
        "validation": _first(job.get("validation_file"), job.get("validation_files")),
    }


def _first(one: Any, several: Any) -> str | None:
    if one:
        return str(one)
    return next((str(file["id"]) for file in several or []), None)


set_public_module(globals(), "tunesmith.migrate")
