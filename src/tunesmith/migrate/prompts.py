"""Prompts from the files that people have: training and validation rows, requests, exports.

A conversation is cut before an assistant's turn, which becomes the reference. Every row becomes a
prompt or is named with its reason; what evaluation tools export is read by `eval_items`. Reads
files, asks nobody.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from tunesmith.datasets.dataset import read
from tunesmith.datasets.prompt_format import saved_format

from .archive import Archive
from .eval_items import is_promptfoo, prompt_of_item, promptfoo_prompts
from .recordings import Prompt, RecordingError, in_order

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .recordings import Source

__all__ = ["PromptFile", "archived_prompts", "read_prompts", "sample_prompts", "twice_ids"]

# What a request says besides the model, the sampling and where the answer goes.
_CONTENT = (
    "messages",
    "prompt",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "response_format",
    "stop",
    "max_tokens",
    "max_completion_tokens",
    "logit_bias",
    "reasoning_effort",
    "suffix",
)


@dataclass
class PromptFile:
    """The prompts of one file.

    Attributes:
        path: The file.
        prompts: In the file's order.
        left_out: Why a row is no prompt, by its place.
    """

    path: Path
    prompts: list[Prompt] = field(default_factory=list[Prompt])
    left_out: dict[str, str] = field(default_factory=dict[str, str])


def read_prompts(
    path: str | os.PathLike[str],
    source: Source = "user",
    *,
    turns: Literal["last", "all"] = "last",
) -> PromptFile:
    """Read the prompts of a file.

    These rows are known: chat, prompt/completion, preference and reinforcement rows of fine-tuning;
    requests, bare or as lines of a batch file; stored chat completions as the API exports them; the
    items of OpenAI's evals and of Langfuse; and files of promptfoo tests (YAML, JSON, JSONL, CSV).

    Args:
        path: The file; every format that `tunesmith.datasets.read` knows, and YAML.
        source: What the prompts are; training rows may be memorised by a model.
        turns: Cut before the last assistant's turn, or before each one that is not weighted 0.

    Raises:
        RecordingError: No row of the file is a prompt.
        DatasetError: The file cannot be read.
    """
    file = PromptFile(Path(path))
    if is_promptfoo(file.path):
        found = promptfoo_prompts(file.path)
        file.prompts, file.left_out = found.prompts, found.left_out
    else:
        _read_rows(file, source, turns)
    if not file.prompts:
        reasons = "; ".join(f"{place}: {why}" for place, why in [*file.left_out.items()][:3])
        raise RecordingError(f"{path} has no prompts. {reasons or 'It has no rows.'}")
    return file


def archived_prompts(
    archive: Archive | str | os.PathLike[str],
    model: str,
    *,
    turns: Literal["last", "all"] = "last",
) -> PromptFile:
    """Return the prompts that an archive has for a fine-tuned model.

    These are the stored chat completions of the model, and the validation and training files of
    the job that made it.

    Args:
        archive: The archive, or its folder.
        model: The model's name.
        turns: As for `read_prompts`.

    Raises:
        RecordingError: The archive has no prompts for this model.
        ArchiveError: There is no archive, or it cannot be read.
    """
    opened = archive if isinstance(archive, Archive) else Archive(archive)
    found = PromptFile(opened.folder)
    for project in opened.projects:
        stored = (
            {**one["completion"], "messages": one["messages"]}
            for one in opened.stored_completions(project)
            if one["completion"].get("model") == model
        )
        for row in stored:
            _add_row(found, row, f"stored:{row.get('id')}", "stored", turns)
    sources: tuple[tuple[Source, str], ...] = (
        ("validation", "validation_file"),
        ("training", "training_file"),
    )
    for job in opened.jobs():
        for source, name in sources if job.fine_tuned_model == model else ():
            identity = getattr(job, name)
            file = None if identity is None else opened.file(job.project, identity)
            for number, row in enumerate(() if file is None else file.rows(), start=1):
                _add_row(found, row, f"{identity}:{number}", source, turns)
    if not found.prompts:
        raise RecordingError(
            f"The archive {opened.folder} has no prompts for {model}: neither stored completions "
            "nor the files of its job. Name files of your own."
        )
    return found


def _add_row(
    found: PromptFile,
    row: Mapping[str, Any],
    place: str,
    source: Source,
    turns: Literal["last", "all"],
) -> None:
    try:
        for one in _prompts_of_row(row, turns):
            found.prompts.append(
                replace(one, source=source, conversation=one.conversation or place, origin=place)
            )
    except ValueError as reason:
        found.left_out[place] = str(reason)


def sample_prompts(prompts: Iterable[Prompt], most: int | None = None) -> list[Prompt]:
    """Return prompts without doubles, by worth, and no more than wanted.

    Where they are too many, a part is drawn that depends on the prompts alone, from all sources and
    lengths as evenly as the whole.

    Args:
        prompts: Of several files.
        most: How many at most; None for all.
    """
    ordered = in_order(prompts)
    if most is None or len(ordered) <= most:
        return ordered
    # By source and length, then every so-and-so-many-th: an even part of each.
    ranked = sorted(ordered, key=lambda prompt: (prompt.source, len(str(prompt.body)), prompt.id))
    step = len(ranked) / max(1, most)
    chosen = {ranked[int((place + 0.5) * step)].id for place in range(most)}
    return [prompt for prompt in ordered if prompt.id in chosen]


def twice_ids(prompts: Sequence[Prompt], share: float) -> set[str]:
    """Return the ids of the share of prompts that is to be recorded twice.

    Which ones depends on the prompts alone, so a resumed recording chooses the same.
    """
    if not 0 <= share <= 1:
        raise RecordingError(f"The share to record twice lies between 0 and 1, not {share}.")
    ranked = sorted(prompt.id for prompt in prompts)
    return set(ranked[: math.ceil(len(ranked) * share)])


def _read_rows(file: PromptFile, source: Source, turns: Literal["last", "all"]) -> None:
    form = saved_format(file.path)
    for row in read(file.path).readable_rows():
        place = f"{file.path.name}:{row.line}"
        try:
            for found in _prompts_of_row(row.value, turns):
                body, reference = dict(found.body), found.reference
                if form is not None and "prompt" in body:
                    for name, value in form.inference_parameters().items():
                        body.setdefault(name, value)
                    if isinstance(reference, str):
                        reference = form.bare_completion(reference)
                file.prompts.append(
                    Prompt(
                        body=body,
                        source="eval" if found.source == "eval" else source,
                        conversation=found.conversation or place,
                        reference=reference,
                        item=found.item,
                        origin=place,
                    )
                )
        except ValueError as reason:
            file.left_out[place] = str(reason)


def _prompts_of_row(row: Mapping[str, Any], turns: Literal["last", "all"]) -> Iterator[Prompt]:
    """Yield the prompts of a row.

    Raises:
        ValueError: It has none; the message is the reason.
    """
    item = prompt_of_item(row)
    if item is not None:
        yield item
        return
    request = row.get("body") if isinstance(row.get("body"), dict) else row.get("request")
    if isinstance(request, dict):  # a line of a batch file, or of a log of requests
        yield from _prompts_of_row(cast("dict[str, Any]", request), turns)
        return
    preferred = row.get("preferred_output")
    if isinstance(row.get("input"), dict) and isinstance(preferred, list):
        yield Prompt(_content(row["input"]), reference=preferred[0], item=row)
        return
    if isinstance(row.get("messages"), list):
        yield from _prompts_of_chat(row, turns)
        return
    if isinstance(row.get("prompt"), str):
        completion = row.get("completion")
        reference = completion if isinstance(completion, str) else None
        yield Prompt(_content(row), reference=reference, item=row)
        return
    raise ValueError(f"a row with the fields {', '.join(sorted(row)[:6]) or 'none'} is no prompt")


def _prompts_of_chat(row: Mapping[str, Any], turns: Literal["last", "all"]) -> Iterator[Prompt]:
    messages: list[Any] = row["messages"]
    if not messages or not all(isinstance(one, dict) for one in messages):
        raise ValueError("messages must be a list of objects, at least one")
    content = _content(row)
    places = [
        place
        for place, message in enumerate(messages)
        if message.get("role") == "assistant" and message.get("weight", 1) != 0 and place > 0
    ]
    choices = row.get("choices")
    if isinstance(choices, list) and choices and messages[-1].get("role") != "assistant":
        # A stored completion: the whole conversation was asked, the answer stands beside it.
        yield Prompt(_with(content, messages), reference=choices[0].get("message"), item=row)
        return
    if messages[-1].get("role") != "assistant":
        yield Prompt(_with(content, messages), item=row)
        return
    if not places:
        raise ValueError("the only message is an assistant's, or all of them have the weight 0")
    for place in places if turns == "all" else places[-1:]:
        reference = {name: value for name, value in messages[place].items() if name != "weight"}
        yield Prompt(_with(content, messages[:place]), reference=reference, item=row)


def _with(content: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a request's content with these messages; weights are no part of a request."""
    plain = [{name: value for name, value in one.items() if name != "weight"} for one in messages]
    return {**content, "messages": plain}


def _content(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _CONTENT if row.get(name) is not None}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
