"""What the server needs of whatever generates the answers: a local process or a vLLM server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tunesmith.engine.models.model_info import ServableModel

    from .generation import GenerationDelta, GenerationRequest

__all__ = ["ServingBackend"]


class ServingBackend(Protocol):
    """Generates answers as any model that it is given. Belongs to one event loop."""

    @property
    def running(self) -> bool:
        """True while models may be in memory."""
        ...

    def generate(
        self, model: ServableModel, request: GenerationRequest
    ) -> AsyncGenerator[GenerationDelta, None]:
        """Yield the pieces of the answer as they come; the last one carries the usage.

        Closing the iterator early stops the generation.

        Raises:
            GenerationError: The request cannot be answered.
        """
        ...

    async def load(self, model: ServableModel) -> None:
        """Load a model, so that its first request need not wait.

        Raises:
            GenerationError: It cannot be loaded.
        """
        ...

    async def loaded(self) -> dict[Path, int]:
        """Return the folders of the models and adapters in memory and the bytes of each.

        Raises:
            GenerationError: The backend cannot say.
        """
        ...

    async def unload(self, folder: Path) -> None:
        """Unload the fine-tuned model in a folder that is about to be deleted.

        A model that is in use is unloaded later; nothing is raised.
        """
        ...

    async def release_gpu(self) -> None:
        """Give the GPU back for a training, once the requests that came before are answered."""
        ...

    async def stop(self) -> None:
        """Stop; pending requests fail."""
        ...
