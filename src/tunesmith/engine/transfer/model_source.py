"""The model that is to be exported: its folders, its base model, and the record of its job."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.models.catalog import load_catalog
from tunesmith.engine.models.model_errors import UnknownModelError
from tunesmith.engine.store import file_queries, job_queries, model_queries
from tunesmith.engine.store.blobs import BlobStore
from tunesmith.engine.training.examples import tokenize_rows, tokenizer_template
from tunesmith.engine.training.rows import read_rows, render_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from tunesmith.engine.domain.errors import TrainingErrorCode
    from tunesmith.engine.home import Home
    from tunesmith.engine.models.model_info import BaseModel
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import FileRow, JobRow, ModelRow

__all__ = ["ModelSource", "find_model", "sample_tokens", "text_tokens"]

_CODE: TrainingErrorCode = "invalid_training_file"
_SAMPLES = 8
_TOKENS_PER_SAMPLE = 64
_TEXTS = (
    "The harbour lay quiet in the early light, and the first boats were already on their way out.",
    "def mean(values):\n    return sum(values) / len(values)\n",
    "Question: What is the capital of Norway?\n\nAnswer: Oslo.",
    '{"name": "Ada", "born": 1815, "fields": ["mathematics", "computing"]}',
)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model of this engine.

    Attributes:
        name: The name that requests use.
        base: Its base model.
        folder: Folder with its adapter or its whole weights; the base's own for a base model.
        is_adapter: Whether that folder is a PEFT adapter.
        job: The job that trained it; None for a base model and an imported one.
        files: The job's training and validation file, by "training" and "validation".
        metrics: Metrics of the checkpoint that the model is, where one was recorded.
        training_path: The training data on this machine, if they are still there.
        prompt_format: The prompt format that it was trained with, if one is known.
    """

    name: str
    base: BaseModel
    folder: Path
    is_adapter: bool
    job: JobRow | None = None
    files: dict[str, FileRow] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    training_path: Path | None = None
    prompt_format: dict[str, Any] | None = None

    @property
    def is_chat(self) -> bool:
        """Whether the model was trained on chats, as far as is known."""
        if self.prompt_format is not None:
            return False
        return all("prompt" not in row for _, row in _first_rows(self.training_path, 1))


def find_model(name: str, home: Home, database: Database) -> ModelSource:
    """Return the model `name`: a fine-tuned one of any organisation, or a base model.

    Raises:
        UnknownModelError: No model has this name.
        ModelNotInstalledError: Its base model is not on this machine.
    """
    catalog = load_catalog(home)
    with database.read() as connection:
        row = model_queries.find(connection, name)
        if row is not None:
            base = catalog.resolve(row.base_model)
            return _fine_tuned(connection, home, row, base)
        known = model_queries.names(connection)
    try:
        base = catalog.resolve(name)
    except UnknownModelError as error:
        listed = f" Fine-tuned models: {', '.join(known)}." if known else ""
        raise UnknownModelError(f"{error}{listed}") from None
    return ModelSource(name, base, base.path, is_adapter=False)


def sample_tokens(source: ModelSource, tokenizer: Any) -> list[list[int]]:
    """Return token ids on which two forms of the model are compared: of its own training data.

    Without them, and for preferences, a few fixed texts are used.
    """
    template = tokenizer_template(tokenizer)
    rows = (
        text
        for line, row in _first_rows(source.training_path, _SAMPLES)
        for text in render_row(row, template, line, _CODE)
    )
    with contextlib.suppress(TrainingError):
        examples = tokenize_rows(
            rows, tokenizer, prompt_loss_weight=0.0, max_tokens=1 << 31, code=_CODE
        )
        if examples:
            return [example.tokens[-_TOKENS_PER_SAMPLE:].tolist() for example in examples]
    return text_tokens(tokenizer)


def text_tokens(tokenizer: Any) -> list[list[int]]:
    """Return the token ids of a few fixed texts."""
    return [list(tokenizer(text)["input_ids"])[:_TOKENS_PER_SAMPLE] for text in _TEXTS]


def _first_rows(path: Path | None, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the first rows of a training file with their line numbers; none if it is gone."""
    if path is not None and path.is_file():
        yield from itertools.islice(read_rows(path, _CODE), count)


def _fine_tuned(connection: Connection, home: Home, row: ModelRow, base: BaseModel) -> ModelSource:
    folder = home.root / row.path
    source = ModelSource(
        row.name,
        base,
        folder,
        is_adapter=(folder / "adapter_config.json").is_file(),
        prompt_format=row.prompt_format,
    )
    job = job_queries.find(connection, row.job_id)
    if job is None:
        return source
    ids = {"training": job.training_file, "validation": job.validation_file}
    files = {
        kind: file
        for kind, file_id in ids.items()
        if file_id and (file := file_queries.get(connection, job.organization, file_id))
    }
    training = files.get("training")
    return replace(
        source,
        job=job,
        files=files,
        metrics=_metrics(connection, row),
        training_path=BlobStore(home.files).path(training.sha256) if training else None,
    )


def _metrics(connection: Connection, row: ModelRow) -> dict[str, Any]:
    """Return the metrics of the model's checkpoint: the last one for the job's own model."""
    checkpoints = job_queries.checkpoints_of(connection, row.job_id)
    matching = [one for one in checkpoints if row.step in {None, one.step}]
    return max(matching, key=lambda one: one.step).metrics if matching else {}
