"""`tunesmith status` and `tunesmith doctor`: what an engine has and does, and what is wrong."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import shutil
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from tunesmith._version import __version__
from tunesmith.disk_space import folder_bytes
from tunesmith.errors import TunesmithError

from .options import add_database_option, add_home_option, get_home, open_database, require_engine
from .output import add_json_option, print_json, table
from .parser import add_command

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from tunesmith.engine.home import Home
    from tunesmith.engine.server_lock import RunningServer

    from .parser import Commands

__all__ = ["Check", "register"]

_LITTLE_SPACE = 5 << 30
_PROBE_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """Something that was looked at.

    Attributes:
        name: What.
        state: Whether it is as it should be; "bad" is what prevents training or serving.
        found: What was found.
        advice: What to do about it, if there is something to do.
    """

    name: str
    state: Literal["good", "note", "bad"]
    found: str
    advice: str = ""


def register(commands: Commands) -> None:
    """Add the commands."""
    for name, handler, summary in (
        ("status", _status, "Show an engine: address, models, keys, jobs, disk"),
        ("doctor", _doctor, "Look for what is wrong with an installation or an engine"),
    ):
        parser = add_command(commands, name, handler, summary, f"tunesmith {name}")
        add_json_option(parser)
        add_home_option(parser)
        add_database_option(parser)


def _status(arguments: argparse.Namespace) -> int:
    require_engine()
    home = get_home(arguments)
    if not home.root.exists():
        raise TunesmithError(
            f"There is no state folder {home.root}: no engine has used it. `tunesmith serve` makes "
            "it; --home names another one."
        )
    facts = _facts(arguments)
    if arguments.json:
        print_json(facts)
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.ljust(width)}  {_text(value)}")
    return 0


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number} {name}" for name, number in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)


def _facts(arguments: argparse.Namespace) -> dict[str, Any]:
    from sqlalchemy import func, select

    from tunesmith.engine.models.catalog import load_catalog
    from tunesmith.engine.models.gpus import read_gpus
    from tunesmith.engine.models.memory_table import host_memory_bytes
    from tunesmith.engine.security.keys import list_keys
    from tunesmith.engine.server_lock import find_running_server
    from tunesmith.engine.store.schema import jobs, models

    with open_database(arguments) as (home, database):
        with database.read() as connection:
            by_status = select(jobs.c.status, func.count()).group_by(jobs.c.status)
            counts = {row[0]: row[1] for row in connection.execute(by_status)}
            fine_tuned = connection.execute(select(func.count()).select_from(models)).scalar_one()
        in_use = [key for key in list_keys(database) if key.revoked_at is None]
    server = find_running_server(home)
    return {
        "version": __version__,
        "engine": _engine_text(server),
        "url": None if server is None else server.url,
        "home": str(home.root),
        "free disk": _gigabytes(shutil.disk_usage(home.root).free),
        "runs on": [
            f"{gpu.name} ({_gigabytes(gpu.memory_bytes)})" for gpu in read_gpus()
        ] or f"the processor: {os.cpu_count()} cores, {_gigabytes(host_memory_bytes())}",
        "base models": [
            f"{base.id} ({_gigabytes(folder_bytes(base.path))})"
            for base in load_catalog(home).bases()
            if base.installed
        ],
        "fine-tuned models": fine_tuned,
        "jobs": dict(sorted(counts.items())),
        "keys": dict(Counter(f"{key.role} of {key.organization}" for key in in_use)),
    }  # fmt: skip


def _engine_text(server: RunningServer | None) -> str:
    if server is None:
        return "not running; start it with `tunesmith serve`"
    return f"{'running' if server.url else 'starting'} (process {server.pid})"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _doctor(arguments: argparse.Namespace) -> int:
    checks = list(_checks(arguments))
    if arguments.json:
        print_json([dataclasses.asdict(check) for check in checks])
    else:
        marks = {"good": "ok", "note": "note", "bad": "WRONG"}
        rows = ((marks[one.state], one.name, one.found) for one in checks)
        print(table(("", "looked at", "found"), rows))
        for one in checks:
            if one.advice:
                print(f"\n{one.name}: {one.advice}")
    return 1 if any(check.state == "bad" for check in checks) else 0


def _checks(arguments: argparse.Namespace) -> Iterator[Check]:
    found = f"{__version__} on Python {sys.version.split()[0]}, {sys.platform}"
    yield Check("tunesmith", "good", found)
    yield _libraries()
    yield _proxies()
    try:
        require_engine()
    except TunesmithError as error:
        yield Check("engine", "note", "the extra is not installed", str(error))
        return
    home = get_home(arguments)
    if not home.root.exists():
        yield Check(
            "home", "note", f"{home.root} does not exist yet", "`tunesmith serve` makes it."
        )
        return
    for check in (_space, _settings, _table_of_models, _base_models, _running):
        yield _safely(check, home)
    try:
        with open_database(arguments) as (_, database):
            yield Check("database", "good", f"revision {database.revision()}")
            yield from _jobs(database)
    except TunesmithError as error:
        yield Check("database", "bad", "cannot be used", str(error))


def _safely(check: Callable[[Home], Check], home: Home) -> Check:
    try:
        return check(home)
    except (TunesmithError, OSError) as error:
        return Check(check.__name__.strip("_").replace("_", " "), "bad", "failed", str(error))


def _libraries() -> Check:
    """Look at the libraries of the extra `engine`, without loading them."""
    found: list[str] = []
    for name in ("torch", "transformers", "peft", "vllm", "bitsandbytes"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return Check("libraries", "good", ", ".join(found) or "none of the engine's")


def _proxies() -> Check:
    """Look for proxy settings that also catch requests to this machine."""
    import urllib.request

    proxies = urllib.request.getproxies()
    if "http" not in proxies or urllib.request.proxy_bypass("127.0.0.1"):
        return Check("proxies", "good", "none for this machine's own addresses")
    return Check(
        "proxies",
        "note",
        "the environment names one for all addresses",
        "The client goes around it for this machine's own addresses; other programs may not: set "
        "NO_PROXY=127.0.0.1,localhost for them.",
    )


def _space(home: Home) -> Check:
    usage = shutil.disk_usage(home.root)
    found = f"{home.root}, {_gigabytes(usage.free)} free"
    if usage.free > _LITTLE_SPACE:
        return Check("home", "good", found)
    advice = "`tunesmith engine gc` removes what nothing needs, `tunesmith models remove` a model."
    return Check("home", "note", found, advice)


def _settings(home: Home) -> Check:
    from tunesmith.engine.config_file import load_config

    load_config(home)
    exists = (home.root / "engine.toml").exists()
    return Check("settings", "good", "engine.toml" if exists else "none: the defaults")


def _table_of_models(home: Home) -> Check:
    from tunesmith.engine.models.catalog import load_catalog

    names = len(load_catalog(home).names)
    return Check("table of models", "good", f"{names} names lead to base models")


def _base_models(home: Home) -> Check:
    from tunesmith.engine.models.catalog import load_catalog
    from tunesmith.engine.models.verdicts import read_verdict, static_fault

    installed = [base for base in load_catalog(home).bases() if base.installed]
    if not installed:
        advice = "Get one: `tunesmith models list`, then `tunesmith models pull NAME`."
        return Check("base models", "bad", "none is installed", advice)
    faults: list[str] = []
    for base in installed:
        verdict = read_verdict(home.proofs, base.path)
        fault = static_fault(base.path) if verdict is None else verdict.refused
        if fault is not None:
            faults.append(f"{base.id} can be neither trained nor served: {fault}.")
    found = ", ".join(base.id for base in installed)
    return Check("base models", "bad" if faults else "good", found, " ".join(faults))


def _running(home: Home) -> Check:
    """Ask the engine that runs whether it is ready."""
    from tunesmith.engine.server_lock import find_running_server

    server = find_running_server(home)
    if server is None or server.url is None:
        return Check("engine", "good" if server else "note", _engine_text(server))
    import httpx

    url = f"{server.url.removesuffix('/v1')}/readyz"
    try:
        answer = httpx.get(url, timeout=_PROBE_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        advice = f"It does not answer ({error}). Look at its log; stop it, and start it again."
        return Check("engine", "bad", f"{_engine_text(server)} at {server.url}", advice)
    if answer.is_success:
        return Check("engine", "good", f"{_engine_text(server)} at {server.url}")
    return Check("engine", "bad", f"{server.url} is not ready", answer.text[:500])


def _jobs(database: Any) -> Iterator[Check]:
    """Look at jobs that have not ended."""
    from tunesmith.engine.store import job_queries

    with database.read() as connection:
        open_jobs = job_queries.unfinished(connection)
    counts = Counter(job.status for job in open_jobs)
    found = ", ".join(f"{number} {status}" for status, number in counts.items())
    yield Check("jobs", "good", found or "none is unfinished")
