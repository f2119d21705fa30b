"""What was asked and what was answered, kept so that it can be compared later.

A recording is a folder of three files, all open formats:

    recording.json    the model, the service's address, the purpose, when it began
    requests.jsonl    a line for each prompt: its id, the request's body, where it comes from
    answers.jsonl     a line for each answer: key, prompt, repeat, the whole response or the error

Where it went through the batch API, `batches.jsonl` says which batches there were.

An answer's key is the SHA-256 of the model, the canonical body and the number of the repeat. Lines
are appended and synced, so a run that is killed has lost at most the answers it was waiting for;
an incomplete last line is ignored and cut off. Knows no network.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, cast

from tunesmith.atomic import write_atomically
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "FINAL_STATUSES",
    "Prompt",
    "RecordedAnswer",
    "Recording",
    "RecordingError",
    "RecordingWriter",
    "answer_key",
    "append_to",
]

Source: TypeAlias = Literal["user", "stored", "eval", "validation", "training"]
"""Where a prompt comes from. Training rows may be memorised, so they are kept apart."""

FORMAT_VERSION = 1

FINAL_STATUSES: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""A request that a service refuses with one of these was refused for what it is: asking again is
of no use."""


class RecordingError(TunesmithError):
    """A recording, or a file of prompts, cannot be used; the message names the place."""


@dataclass(frozen=True)
class Prompt:
    """A request that both models get.

    Attributes:
        body: The request's body without `model`: `messages` or `prompt`, tools, response_format.
        source: Where it comes from.
        conversation: Which prompts belong together; statistics draw whole conversations.
        reference: The right answer where there is one: an assistant's message or a text.
        item: What graders find as `item`.
        origin: The place it was read from, such as `valid.jsonl:12`.
    """

    body: Mapping[str, Any]
    source: Source = "user"
    conversation: str = ""
    reference: Any = None
    item: Any = None
    origin: str = ""

    @cached_property
    def id(self) -> str:
        """The SHA-256 of the canonical body."""
        return hashlib.sha256(canonical_json(self.body)).hexdigest()

    @property
    def is_chat(self) -> bool:
        """Whether it goes to /chat/completions; else to /completions."""
        return "messages" in self.body


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One answer of a model, or why there is none.

    Attributes:
        key: From `answer_key`.
        prompt: The prompt's id.
        repeat: 0 for the first time the prompt was asked.
        response: The whole response; None if there is an error.
        error: What the service said instead: `status`, `code`, `message`.
        seconds: From the request to the whole answer; None if it was not measured.
        request_id: The service's id of the request.
        recorded_at: Unix time.
    """

    key: str
    prompt: str
    repeat: int
    response: Mapping[str, Any] | None
    error: Mapping[str, Any] | None = None
    seconds: float | None = None
    request_id: str | None = None
    recorded_at: int = 0

    @property
    def is_final(self) -> bool:
        """Whether asking again would be of no use."""
        return self.response is not None or (self.error or {}).get("is_final") is True


@dataclass
class Recording:
    """The answers of one model.

    Attributes:
        model: The name that was asked for.
        prompts: By id, in the order of recording.
        answers: By prompt and repeat; the newest, where one was asked again.
        facts: What `recording.json` says besides.
    """

    model: str
    prompts: dict[str, Prompt] = field(default_factory=dict[str, Prompt])
    answers: dict[tuple[str, int], RecordedAnswer] = field(
        default_factory=dict[tuple[str, int], RecordedAnswer]
    )
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Recording:
        """Read a recording's folder.

        Raises:
            RecordingError: It is none, or a line in it is damaged.
        """
        path = Path(folder)
        facts = _read_facts(path)
        recording = cls(str(facts["model"]), facts=facts)
        for line, place in _lines(path / "requests.jsonl"):
            prompt = _prompt(line, place)
            recording.prompts[prompt.id] = prompt
        for line, place in _lines(path / "answers.jsonl"):
            answer = _answer(line, place)
            recording.answers[answer.prompt, answer.repeat] = answer
        return recording

    def answer(self, prompt: str, repeat: int = 0) -> RecordedAnswer | None:
        """Return a prompt's answer, None if it was not recorded."""
        return self.answers.get((prompt, repeat))


class RecordingWriter:
    """Appends to a recording's folder; use it with `with`.

    Args:
        folder: Created for the owner alone if missing; a recording in it is continued.
        model: The model that is asked.
        facts: What `recording.json` is to say besides: address, purpose.

    Raises:
        RecordingError: The folder has the recording of another model.
    """

    def __init__(
        self, folder: str | os.PathLike[str], model: str, facts: Mapping[str, Any] | None = None
    ) -> None:
        self.folder: Path = Path(folder)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.recording: Recording = self._open(model, dict(facts or {}))
        self._requests = append_to(self.folder / "requests.jsonl")
        self._answers = append_to(self.folder / "answers.jsonl")

    def _open(self, model: str, facts: dict[str, Any]) -> Recording:
        path = self.folder / "recording.json"
        if path.exists():
            recording = Recording.read(self.folder)
            if recording.model != model:
                raise RecordingError(
                    f"{self.folder} has the answers of {recording.model}, not of {model}. Name "
                    "another folder."
                )
            return recording
        facts = {"format": FORMAT_VERSION, "model": model, "began_at": int(time.time()), **facts}
        for name in ("requests.jsonl", "answers.jsonl"):
            _private_file(self.folder / name)
        with write_atomically(path) as stream:
            stream.write(json.dumps(facts, indent=2, ensure_ascii=False).encode() + b"\n")
        path.chmod(0o600)
        return Recording(model, facts=facts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_prompt(self, prompt: Prompt) -> None:
        """Write a prompt down, unless it is already."""
        if prompt.id in self.recording.prompts:
            return
        self.recording.prompts[prompt.id] = prompt
        line = {
            "id": prompt.id,
            "body": prompt.body,
            "source": prompt.source,
            "conversation": prompt.conversation,
            "reference": prompt.reference,
            "item": prompt.item,
            "origin": prompt.origin,
        }
        self._requests.write(json_line(line))

    def add_answer(self, answer: RecordedAnswer) -> None:
        """Write an answer down and wait until the disk has it."""
        self.recording.answers[answer.prompt, answer.repeat] = answer
        line = {
            "key": answer.key,
            "prompt": answer.prompt,
            "repeat": answer.repeat,
            "recorded_at": answer.recorded_at,
            "seconds": answer.seconds,
            "request_id": answer.request_id,
            "response": answer.response,
            "error": answer.error,
        }
        self._requests.flush()  # an answer never refers to a prompt that is not there
        os.fsync(self._requests.fileno())
        self._answers.write(json_line(line))
        self._answers.flush()
        os.fsync(self._answers.fileno())

    def close(self) -> None:
        """Close the files."""
        for file in (self._requests, self._answers):
            file.flush()
            os.fsync(file.fileno())
            file.close()


def answer_key(model: str, body: Mapping[str, Any], repeat: int) -> str:
    """Return the key of an answer: the SHA-256 of model, canonical body and repeat."""
    return hashlib.sha256(canonical_json([model, body, repeat])).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return JSON that is the same for equal values: sorted keys, no blanks, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def json_line(value: Any) -> bytes:
    """Return a value as a line of JSON."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def find_recordings(folder: Path) -> list[Path]:
    """Return the folders of recordings in a folder, or the folder itself if it is one."""
    if (folder / "recording.json").exists():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/recording.json"))


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / "recording.json"
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RecordingError(
            f"{folder} is no recording: it has no recording.json. `tunesmith migrate record` "
            "makes one."
        ) from None
    except ValueError as error:
        raise RecordingError(f"{path} is damaged: {error}.") from None
    if not isinstance(facts, dict) or not isinstance(facts.get("model"), str):
        raise RecordingError(f"{path} names no model.")
    found = cast("dict[str, Any]", facts)
    if found.get("format") != FORMAT_VERSION:
        raise RecordingError(
            f"{path} has the format {found.get('format')!r:.20}; this version reads "
            f"{FORMAT_VERSION}."
        )
    return found


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the lines of a journal with their places; an incomplete last one is left out."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            place = f"{path}:{number}"
            if not line.endswith(b"\n"):
                return
            try:
                found = json.loads(line)
            except ValueError as error:
                raise RecordingError(f"{place} is damaged: {error}.") from None
            if not isinstance(found, dict):
                raise RecordingError(f"{place} is no object.")
            yield cast("dict[str, Any]", found), place


def _prompt(line: Mapping[str, Any], place: str) -> Prompt:
    body = line.get("body")
    if not isinstance(body, dict):
        raise RecordingError(f"{place} has no body.")
    prompt = Prompt(
        body=cast("dict[str, Any]", body),
        source=line.get("source") or "user",
        conversation=str(line.get("conversation") or ""),
        reference=line.get("reference"),
        item=line.get("item"),
        origin=str(line.get("origin") or ""),
    )
    if line.get("id") != prompt.id:
        raise RecordingError(f"{place} was changed: its id does not fit its body.")
    return prompt


def _answer(line: Mapping[str, Any], place: str) -> RecordedAnswer:
    try:
        return RecordedAnswer(
            key=str(line["key"]),
            prompt=str(line["prompt"]),
            repeat=int(line["repeat"]),
            response=line.get("response"),
            error=line.get("error"),
            seconds=line.get("seconds"),
            request_id=line.get("request_id"),
            recorded_at=int(line.get("recorded_at") or 0),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordingError(f"{place} is no answer: {error}.") from None


def _private_file(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def append_to(path: Path) -> Any:
    """Open a journal for appending, without the incomplete line that a crash has left."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    return path.open("ab")


def in_order(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Return prompts without doubles, by worth: the user's own first, training rows last."""
    ranks = {"user": 0, "stored": 1, "eval": 2, "validation": 3, "training": 4}
    first: dict[str, Prompt] = {}
    for prompt in sorted(prompts, key=lambda one: ranks.get(one.source, 0)):
        first.setdefault(prompt.id, prompt)
    return list(first.values())
