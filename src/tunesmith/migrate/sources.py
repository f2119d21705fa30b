"""Which projects are read, and with which key.

Keys of administrators serve /organization alone; files, jobs and answers need the key of a
project. So an administrator's key lists the projects, and each needs a key of its own, or one key
that opens several, chosen by the field OpenAI-Project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.core.environment import checked_key
from tunesmith.core.redact import Secret
from tunesmith.core.request import RequestSpec
from tunesmith.errors import APIStatusError, ConfigurationError

from .archive import Gap, folder_name
from .remote import Remote, Throttle, reason_of

if TYPE_CHECKING:
    from tunesmith.core.flow import Flow
    from tunesmith.core.settings import Settings

__all__ = ["Source", "Sources", "open_sources", "service_of", "visible_keys"]

Projects = Mapping[str, str] | Sequence[str] | None
_PROJECT = "openai-project"
_REFUSED = frozenset({401, 403, 404})


@dataclass(frozen=True, slots=True)
class Source:
    """A project that can be read.

    Attributes:
        project: Its id; "default" for a resource or a key whose project is not known.
        remote: Reads it.
    """

    project: str
    remote: Remote


@dataclass(slots=True)
class Sources:
    """The projects of an organisation.

    Attributes:
        opened: Those that can be read.
        gaps: Those that no key opens.
        described: An object for each project of the organisation, as the manifest has it.
    """

    opened: list[Source] = field(default_factory=list[Source])
    gaps: list[Gap] = field(default_factory=list[Gap])
    described: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def service_of(settings: Settings) -> Literal["openai", "azure"]:
    """Return which service a client talks to."""
    return "openai" if settings.azure is None else "azure"


def visible_keys(settings: Settings, projects: Projects) -> list[str]:
    """Return the credentials in plain text, so that none of them gets into an archive."""
    keys = [
        key.reveal() for key in (settings.credential, settings.admin_key) if isinstance(key, Secret)
    ]
    return [*keys, *(projects.values() if isinstance(projects, Mapping) else ())]


def open_sources(settings: Settings, projects: Projects, workers: int) -> Flow[Sources]:
    """Find the projects and their keys.

    Args:
        settings: Those of the client.
        projects: As for `pull`.
        workers: Requests at a time.

    Raises:
        AuthenticationError: A key that was given for a project is refused.
        ConfigurationError: Several projects of an Azure resource were named.
    """
    throttle, listed, found = Throttle(), list[dict[str, Any]](), Sources()
    if service_of(settings) == "azure":
        if projects is not None:
            raise ConfigurationError("An Azure resource has no projects: leave `projects` out.")
    elif settings.admin_key is not None:
        listed = yield from _listed_projects(settings, throttle, workers)
    if projects is not None:
        _open_named(settings, throttle, workers, projects, found)
    elif listed:
        for one in listed:
            yield from _try_project(settings, throttle, workers, one, found)
    else:
        yield from _own_project(settings, throttle, workers, found)
    opened = {source.project for source in found.opened}
    if isinstance(projects, Mapping):
        found.gaps += [
            _closed(one, None, "No key was given for this project.")
            for one in listed
            if one["id"] not in opened and one.get("status") != "archived"
        ]
    names = {one["id"]: one.get("name") for one in listed}
    found.described = [{"id": one, "name": names.get(one)} for one in sorted(opened)]
    return found


def _open_named(
    settings: Settings,
    throttle: Throttle,
    workers: int,
    projects: Mapping[str, str] | Sequence[str],
    found: Sources,
) -> None:
    """Open the projects that the user named, with their own keys or with the client's."""
    if isinstance(projects, Mapping):
        for project, key in projects.items():
            own = replace(settings, credential=_secret(project, key))
            remote = Remote(own, Throttle(), workers, {_PROJECT: project})
            found.opened.append(Source(project, remote))
        return
    for project in _ids(projects):
        remote = Remote(settings, throttle, workers, {_PROJECT: project})
        found.opened.append(Source(project, remote))


def _ids(projects: Sequence[str]) -> Sequence[str]:
    if isinstance(projects, str):
        raise ConfigurationError("projects is a list of ids, or a mapping of ids to keys.")
    return projects


def _secret(project: str, key: str) -> Secret:
    secret = checked_key(key)
    if secret is None:
        raise ConfigurationError(f"The key for {project} is empty.")
    return secret


def _listed_projects(
    settings: Settings, throttle: Throttle, workers: int
) -> Flow[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []

    def take(page: list[dict[str, Any]]) -> Flow[None]:
        found.extend(page)
        yield from ()

    remote = Remote(settings, throttle, workers)
    query = {"include_archived": "true"}
    yield from remote.pages("/organization/projects", take, query, limit=100)
    return found


def _try_project(
    settings: Settings, throttle: Throttle, workers: int, project: dict[str, Any], found: Sources
) -> Flow[None]:
    """Open a project with the client's own key, or note that it does not fit."""
    remote = Remote(settings, throttle, workers, {_PROJECT: project["id"]})
    try:
        yield from remote.get("/models")
    except APIStatusError as error:
        if error.status_code not in _REFUSED:
            raise
        if project.get("status") != "archived":
            found.gaps.append(_closed(project, *reason_of(error)))
        return
    found.opened.append(Source(project["id"], remote))


def _closed(project: dict[str, Any], code: int | None, message: str) -> Gap:
    identity = str(project["id"])
    path = f"projects/{folder_name(identity)}"
    return Gap(path, identity, "project", "forbidden", code, message)


def _own_project(
    settings: Settings, throttle: Throttle, workers: int, found: Sources
) -> Flow[None]:
    """Open the project of the client's key; the service may say which one that is."""
    remote = Remote(settings, throttle, workers)
    response = yield from remote.request(RequestSpec("GET", "/models"))
    named = settings.headers.get(_PROJECT) or response.headers.get(_PROJECT)
    found.opened.append(Source(named or "default", remote))
