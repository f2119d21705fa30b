"""The application: creates the engine's services and mounts API and dashboard on them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio.to_thread
from fastapi import FastAPI

from tunesmith._version import __version__
from tunesmith.core.redact import Secret

from .api import (
    http_errors,
    openapi,
    routes_chat,
    routes_checkpoint_permissions,
    routes_completions,
    routes_exports,
    routes_files,
    routes_fine_tuning_jobs,
    routes_graders,
    routes_health,
    routes_legacy_fine_tunes,
    routes_model_routes,
    routes_models,
    routes_stored_completions,
    routes_tokenizer,
    routes_uploads,
)
from .api.dependencies import Services
from .api.gateway import Gateway
from .api.middleware import RequestContext
from .api.request_metrics import RequestMetrics
from .dashboard import mount_dashboard
from .file_limit import connections_allowed
from .fork_server import ForkServer
from .fork_server import is_supported as is_fork_server_supported
from .jobs.dispatcher import Dispatcher
from .jobs.export_queue import ExportQueue
from .jobs.launcher import ForkServerLauncher, Launcher, SubprocessLauncher
from .jobs.watcher import EventWatcher
from .model_preloader import ModelPreloader
from .model_registry import ModelRegistry
from .models.gpus import GpuPool, read_gpus
from .routing.route_table import RouteTable
from .routing.upstreams import Upstreams
from .security.keys import KeyRing
from .security.rate_limit import ConcurrencyLimiter, RateLimiter
from .serving import (
    ManagedVllmBackend,
    ManagedVllmSettings,
    VllmBackend,
    create_local_backend,
)
from .serving.worker_protocol import WorkerSettings
from .store.blobs import BlobStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from starlette.types import ASGIApp

    from .config import EngineConfig
    from .models.gpus import Gpu
    from .serving import ServingBackend
    from .store.database import Database

__all__ = ["create_app", "with_context"]


def create_app(
    config: EngineConfig,
    database: Database,
    *,
    launcher: Launcher | None = None,
    backend: ServingBackend | None = None,
    gpus: Sequence[Gpu] | None = None,
) -> FastAPI:
    """Return the application, which starts its services when it is served.

    Its state holds `services` (see `api.dependencies.Services`), and for the serving routes
    `config`, `models`, `backend` and `gateway`.

    Args:
        config: The engine's settings.
        database: Open, with its schema up to date. The application closes it at the end.
        launcher: Starts workers; default: processes on this machine.
        backend: Generates the answers; default: the one that the settings name.
        gpus: The cards that trainings and serving may use; default: those of this machine.
    """
    route_table = RouteTable(database)
    registry = ModelRegistry(config.home, database, route_table)
    pool = GpuPool(config.home.gpus, read_gpus() if gpus is None else gpus)
    # A GPU's driver does not survive a fork.
    can_fork = config.launcher == "process" and not pool.gpus and is_fork_server_supported()
    fork_server = (
        ForkServer(config.home.root / "fork-server.log", config.threads) if can_fork else None
    )
    backend = backend or _backend(config, pool, fork_server)
    preloader = ModelPreloader(database, registry, backend, pool, enabled=config.serving.preload)
    launcher = launcher or _launcher(config, pool, fork_server)
    upstreams = Upstreams(config.upstreams, config.home.upstreams)
    services = Services(
        config=config,
        database=database,
        blobs=BlobStore(config.home.files),
        models=registry,
        routes=route_table,
        upstreams=upstreams,
        keys=KeyRing(database, config.organization),
        dispatcher=Dispatcher(config, database, registry, launcher, preloader, pool=pool),
        watcher=EventWatcher(database),
        exports=ExportQueue(config, database, fork_server),
        limiter=RateLimiter(config.limits.requests_per_minute),
        in_progress=ConcurrencyLimiter(
            config.limits.concurrent_requests or connections_allowed() // 2
        ),
        request_metrics=RequestMetrics(),
    )

    gateway = Gateway(upstreams, database, config.limits)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        preloader.start()
        await anyio.to_thread.run_sync(services.blobs.clear_incoming)
        services.watcher.start()
        services.dispatcher.start()
        services.exports.start()
        try:
            yield
        finally:
            preloader.stop()
            await services.watcher.stop()
            await gateway.stop()
            await anyio.to_thread.run_sync(services.exports.stop)
            await anyio.to_thread.run_sync(services.dispatcher.stop)
            await backend.stop()
            if fork_server is not None:
                await anyio.to_thread.run_sync(fork_server.close)
            database.close()

    app = FastAPI(
        title="tunesmith",
        version=__version__,
        summary="Fine-tuning and completions on your own machine, with the OpenAI API.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        strict_content_type=False,
    )
    app.state.services = services
    app.state.config = config
    app.state.models = registry
    app.state.backend = backend
    app.state.gateway = gateway
    http_errors.install(app)
    openapi.install(app)
    for routes in (
        routes_chat,  # addresses are looked for in this order: those asked most often come first
        routes_completions,
        routes_files,
        routes_uploads,
        routes_legacy_fine_tunes,
        routes_fine_tuning_jobs,
        routes_checkpoint_permissions,
        routes_graders,
        routes_models,
        routes_model_routes,
        routes_exports,
        routes_stored_completions,
        routes_tokenizer,
        routes_health,
    ):
        app.include_router(routes.router)
    mount_dashboard(app)
    return app


def _launcher(config: EngineConfig, pool: GpuPool, fork_server: ForkServer | None) -> Launcher:
    if fork_server is not None:
        return ForkServerLauncher(config, fork_server)
    return SubprocessLauncher(config, has_gpus=bool(pool.gpus) and config.launcher == "process")


def _backend(config: EngineConfig, pool: GpuPool, fork_server: ForkServer | None) -> ServingBackend:
    serving = config.serving
    if serving.backend == "vllm" and serving.url is not None:
        key = serving.api_key
        return VllmBackend(serving.url, None if key is None else Secret(key))
    if serving.backend == "vllm":
        settings = ManagedVllmSettings(
            config.home.vllm, serving.command, serving.arguments, serving.gpus
        )
        return ManagedVllmBackend(settings, pool)
    return create_local_backend(
        threads=config.serving_threads,
        memory_bytes=config.memory_bytes,
        settings=WorkerSettings(weights=serving.weights),
        pool=pool,
        fork_server=fork_server,
    )


def with_context(app: FastAPI, config: EngineConfig) -> ASGIApp:
    """Return the application wrapped in its middleware: request ids, metrics, body limits."""
    uploads = frozenset({"/v1/files", "/dashboard/v1/files"})
    return RequestContext(
        app,
        body_bytes=config.limits.body_bytes,
        metrics=app.state.services.request_metrics,
        unlimited=uploads,
    )
