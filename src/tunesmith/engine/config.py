"""The engine's settings: one frozen record, the same for server, workers and tests."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Literal

from tunesmith.core.urls import is_loopback_host
from tunesmith.datasets.training_defaults import DEFAULT_TOKEN_LIMIT
from tunesmith.types.job_parameters import RecipeChoice  # noqa: TC001 - pydantic reads it

from .domain.errors import EngineError
from .home import Home

__all__ = [
    "DEFAULT_PORT",
    "EngineConfig",
    "Limits",
    "MigrateConfig",
    "PythonGraders",
    "RayConfig",
    "ServingConfig",
    "UpstreamConfig",
]

DEFAULT_PORT = 8712
_LEGACY = frozenset({"ada", "babbage", "curie", "davinci"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request, one key or one organisation.

    Attributes:
        file_bytes: Largest uploaded file, in bytes.
        body_bytes: Largest body of any other request, in bytes.
        queued_jobs: Maximum number of unfinished jobs of one organisation.
        requests_per_minute: Maximum number of requests a minute by one key; 0 for no limit.
        concurrent_requests: Maximum number of requests of one organisation that are answered at a
            time, open event streams among them; 0 for half of the connections that the limit of
            open files allows.
        prompts: Maximum number of prompts in one completion request.
        stored_completion_days: How long chat completions with `store` are kept; 0 stores none.
        stored_completions: Maximum number of them that one organisation has at a time.
        route_decision_days: How long is kept how requests to names with a route were answered.
        route_decisions: Maximum number of these records in all; the oldest go first.
        mirrored_requests: Maximum number of requests that wait to be asked beside.
        mirrored_bytes: Maximum size of these requests and of the answers to compare, in bytes.
        mirrored_at_a_time: How many of them are asked at a time.
        exports: Maximum number of exports of models that one organisation has at a time, kept ones
            included; 0 offers none.
        export_hours: How long an export is kept after its end.
    """

    file_bytes: int = 1 << 30
    body_bytes: int = 8 << 20
    queued_jobs: int = 1000
    requests_per_minute: int = 0
    concurrent_requests: int = 0
    prompts: int = 128
    stored_completion_days: int = 30
    stored_completions: int = 100_000
    route_decision_days: int = 90
    route_decisions: int = 1_000_000
    mirrored_requests: int = 1000
    mirrored_bytes: int = 64 << 20
    mirrored_at_a_time: int = 2
    exports: int = 8
    export_hours: float = 24.0


@dataclass(frozen=True, slots=True)
class ServingConfig:
    """What generates completions.

    Attributes:
        backend: "embedded" for a process of this engine, "vllm" for a vLLM server.
        url: Address of a vLLM server that runs already; None for one that the engine starts.
        api_key: The `--api-key` of a server that runs already, if it has one.
        command: What starts vLLM, in place of the environment that `tunesmith engine install vllm`
            makes, such as `["/opt/vllm/bin/vllm"]`.
        arguments: Further arguments for the `vllm serve` of the engine.
        gpus: Number of GPUs over which that server divides a model.
        weights: How this engine's process keeps weights on a processor: "int4" as 4-bit numbers,
            which makes single requests faster and answers a little less exact; "unquantized" as
            they are; "auto" as 4-bit numbers only where the model's weights already are such
            numbers, up to rounding.
        preload: Whether the model of a training is loaded before the first request for it.
    """

    backend: Literal["embedded", "vllm"] = "embedded"
    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    command: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    gpus: int = 1
    weights: Literal["auto", "unquantized", "int4"] = "unquantized"
    preload: bool = True

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise EngineError("serving.gpus: it must be 1 or more.")


@dataclass(frozen=True, slots=True)
class RayConfig:
    """How trainings run if the launcher is "ray".

    Attributes:
        address: Address of the Ray cluster, "auto" for this machine's; None starts one here for
            each job.
        workers: Number of processes that share one training, each with a part of the weights.
        max_failures: How often Ray restarts the workers after one has died.
        use_gpu: Whether each worker gets a GPU; None where the cluster has any. They are never
            replaced by processors.
        placement_seconds: How long to wait until the cluster has what the workers need.
    """

    address: str | None = None
    workers: int = 2
    max_failures: int = 3
    use_gpu: bool | None = None
    placement_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class PythonGraders:
    """Whether and how source code that a grader brings is run, in a process of its own.

    Attributes:
        enabled: Whether it is run at all.
        seconds: The processor time of one call.
        memory_bytes: The address space of its process, the interpreter's share included.
    """

    enabled: bool = False
    seconds: float = 10.0
    memory_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class MigrateConfig:
    """What the dashboard's page Migration shows to owners.

    Attributes:
        archive: Folder of an archive that `tunesmith migrate pull` made.
        reports: Folder with what `migrate inventory --json` and `migrate compare --json-file`
            wrote.
    """

    archive: str | None = None
    reports: str | None = None


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """Another service that model names may lead to.

    Attributes:
        url: Its base URL, such as "https://api.openai.com/v1" or
            "https://NAME.openai.azure.com".
        api_key: The key that this engine sends to it.
        kind: "openai" for a bearer token and `URL/chat/completions`; "azure" for the header
            `api-key` and Azure's addresses.
        api_version: Azure's `api-version`, for its addresses with the deployment in the path;
            None for those without a version, `/openai/v1/…`.
        organization: Sent as `OpenAI-Organization`, for keys that see several.
        project: Sent as `OpenAI-Project`, likewise.
    """

    url: str
    api_key: str = field(repr=False)
    kind: Literal["openai", "azure"] = "openai"
    api_version: str | None = None
    organization: str | None = None
    project: str | None = None


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The settings of `serve`.

    Attributes:
        home: The state folder.
        host: Address to listen on. Other than loopback only once a key exists.
        port: Port to listen on; 0 takes a free one.
        database_url: SQLAlchemy URL; None is SQLite in the state folder.
        max_concurrent_jobs: Maximum number of trainings at a time.
        max_attempts: Number of starts without progress after which a job fails.
        heartbeat_seconds: Time between two heartbeats of a worker.
        lease_seconds: A worker whose last heartbeat is older has lost its job.
        shutdown_seconds: Time for trainings to write a checkpoint at shutdown.
        validation_seconds: Processor time that the validation of a job's files may take.
        organization: Name of the organisation that owns what keyless clients create.
        checkpoint_every_seconds: Minimum time between two checkpoints for resuming.
        recipe: Recipe of jobs that name none.
        max_example_tokens: Most tokens of a training example; None for the context of its model.
        threads: Threads of one training; None lets the training choose.
        serving_threads: Threads that generate completions; None lets the backend choose.
        memory_bytes: Memory for loaded models; None for the backend's default.
        serving: What generates completions.
        launcher: What runs trainings: "process" for processes of this machine, "ray" for Ray.
        processes_per_job: Processes of this machine that share one training, each with a part of
            the weights: one for each of as many GPUs, or any number on a machine without.
        ray: Settings of the launcher "ray".
        python_graders: Whether and how python graders run.
        migrate: What the page Migration shows.
        upstreams: Other services that model names may lead to, by name.
        log_format: "text" for people, "json" for machines.
        trusted_proxies: Addresses or networks of the proxies whose `X-Forwarded-For` and
            `X-Forwarded-Proto` are believed; by default nobody's are.

    Raises:
        EngineError: `trusted_proxies` has something else than addresses and networks.
    """

    home: Home = field(default_factory=Home.from_environment)
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    database_url: str | None = field(default=None, repr=False)
    max_concurrent_jobs: int = 1
    max_attempts: int = 3
    heartbeat_seconds: float = 2.0
    lease_seconds: float = 30.0
    shutdown_seconds: float = 30.0
    validation_seconds: float = 300.0
    organization: str = "local"
    checkpoint_every_seconds: float = 20.0
    recipe: RecipeChoice = "auto"
    max_example_tokens: int | None = None
    threads: int | None = None
    serving_threads: int | None = None
    memory_bytes: int | None = None
    serving: ServingConfig = field(default_factory=ServingConfig)
    launcher: Literal["process", "ray"] = "process"
    processes_per_job: int = 1
    ray: RayConfig = field(default_factory=RayConfig)
    python_graders: PythonGraders = field(default_factory=PythonGraders)
    migrate: MigrateConfig = field(default_factory=MigrateConfig)
    upstreams: dict[str, UpstreamConfig] = field(default_factory=dict[str, UpstreamConfig])
    log_format: Literal["text", "json"] = "text"
    limits: Limits = field(default_factory=Limits)
    trusted_proxies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.processes_per_job < 1:
            raise EngineError("processes_per_job: it must be 1 or more.")
        if self.processes_per_job > 1 and self.launcher == "ray":
            raise EngineError('processes_per_job is for launcher = "process"; Ray has ray.workers.')
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise EngineError(f"trusted_proxies: {error}.") from None

    @property
    def training_processes(self) -> int:
        """How many processes share each training."""
        return self.ray.workers if self.launcher == "ray" else self.processes_per_job

    @property
    def database(self) -> str:
        """The URL of the database in use. It may hold a password: never print it."""
        if self.database_url is not None:
            return self.database_url
        return f"sqlite:///{self.home.database}"

    def example_limit(self, family: str) -> int | None:
        """Return the most tokens of an example for a model of a family; None for its context.

        The families of the legacy API keep the limit that they have had.
        """
        limits = [self.max_example_tokens, DEFAULT_TOKEN_LIMIT if family in _LEGACY else None]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach the server."""
        return is_loopback_host(self.host)
