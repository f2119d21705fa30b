"""The layout of the engine's state folder.

`TUNESMITH_HOME` names the folder; without it the platform's user data folder is used.
Nothing is written outside of it. This module only names paths; the code that writes one
creates its parents.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Home"]

_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class Home:
    """The layout of a state folder.

    Attributes:
        root: The folder itself.
    """

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """Return the folder named by `TUNESMITH_HOME`, else the platform's user data folder."""
        named = os.environ.get("TUNESMITH_HOME")
        if named:
            return cls(Path(named).expanduser().absolute())
        import platformdirs  # noqa: PLC0415 - an extra, loaded only where it is needed

        return cls(Path(platformdirs.user_data_dir("tunesmith", appauthor=False)))

    def make_private(self) -> None:
        """Create the folder, or take the rights on it from everyone but its owner (mode 0700).

        Raises:
            OSError: It cannot be created. That it is somebody else's folder is no error.
        """
        self.root.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        with contextlib.suppress(PermissionError):
            self.root.chmod(_PRIVATE)

    @property
    def database(self) -> Path:
        """The SQLite database: jobs, events, files, models, keys."""
        return self.root / "engine.db"

    @property
    def server_lock(self) -> Path:
        """The lock of the server that runs, and where it answers."""
        return self.root / "server.lock"

    @property
    def files(self) -> Path:
        """Uploaded and written files, by content."""
        return self.root / "files"

    @property
    def uploads(self) -> Path:
        """One folder per unfinished upload: its parts."""
        return self.root / "uploads"

    @property
    def jobs(self) -> Path:
        """One folder per job: its specification, log and checkpoints."""
        return self.root / "jobs"

    @property
    def models(self) -> Path:
        """One folder per fine-tuned model: a PEFT adapter, or whole weights."""
        return self.root / "models"

    @property
    def base_models(self) -> Path:
        """One folder per base model: safetensors, tokenizer and where they came from."""
        return self.root / "base-models"

    @property
    def base_model_table(self) -> Path:
        """The user's table of base models and of the names that lead to them (TOML)."""
        return self.root / "models.toml"

    @property
    def base_model_pins(self) -> Path:
        """The commit and the hashes of each hub model that was pulled; see `models.model_pins`."""
        return self.root / "models.lock.json"

    @property
    def upstreams(self) -> Path:
        """Other services that model names may lead to, with their keys (TOML, for the owner)."""
        return self.root / "upstreams.toml"

    @property
    def downloads(self) -> Path:
        """Downloads, kept while they are incomplete and until they are used."""
        return self.root / "downloads"

    @property
    def exports(self) -> Path:
        """One folder per export over the API: its archive, and what is made on the way."""
        return self.root / "exports"

    @property
    def tools(self) -> Path:
        """Programs that exports use, unpacked; downloaded again if they are missing."""
        return self.root / "tools"

    @property
    def vllm(self) -> Path:
        """The vLLM server that the engine manages: its environment, its log, its caches."""
        return self.root / "vllm"

    @property
    def gpus(self) -> Path:
        """One lock file per GPU, held by the process that uses it."""
        return self.root / "gpus"

    @property
    def proofs(self) -> Path:
        """What was proven of base models; see `models.verdicts`."""
        return self.root / "model-proofs"

    def job(self, job_id: str) -> Path:
        """Return the folder of one job. The id is the engine's own, never a user's text."""
        return self.jobs / job_id
