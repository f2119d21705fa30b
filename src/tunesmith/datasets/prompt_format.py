"""`PromptFormat`: how prompts and completions are written, in training and at inference.

A fine-tuned completion model has learnt one fixed separator after each prompt, one fixed
whitespace before each completion and one fixed stop sequence after it. `PromptFormat` holds the
three: it writes training rows, checks them, formats prompts at inference and returns the request
parameters that belong to them, so that training and inference cannot drift apart.

It is saved as a small JSON file beside the data. The name of that file, its JSON and its version
are known to this module alone. The client reads it for every upload of a path, so nothing heavy
is imported here; token counts load their vocabulary when they are asked for.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, cast

from tunesmith._lazy import set_public_module
from tunesmith.atomic import write_atomically

from .dataset_errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .tokens import Encoder

__all__ = [
    "MAX_LOGPROBS",
    "PromptFormat",
    "PromptFormatError",
    "Violation",
    "ViolationKind",
    "format_path",
    "require_prompt_format",
    "saved_format",
]

MAX_LOGPROBS: Final = 5
"""The completions API returns at most this many alternatives for each token."""

FORMAT_VERSION: Final = 1

_DIGITS: Final = re.compile(r"(\d)")

ViolationKind: TypeAlias = Literal[
    "separator-missing",
    "separator-repeated",
    "separator-in-completion",
    "leading-whitespace",
    "completion-empty",
    "stop-missing",
    "stop-inside",
]


class PromptFormatError(DatasetError):
    """A text, a row or a saved file does not fit a prompt format."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which a row departs from its format.

    Attributes:
        kind: Stable name of the rule.
        field: "prompt" or "completion".
        offset: Index of the first offending character in that field.
        message: The violation as a sentence for the user.
    """

    kind: ViolationKind
    field: Literal["prompt", "completion"]
    offset: int
    message: str


@dataclass(frozen=True, slots=True)
class PromptFormat:
    r"""Separator, leading whitespace and stop sequence of a prompt/completion data set.

    Attributes:
        separator: Ends every prompt and occurs nowhere else; "" for none.
        leading_whitespace: Starts every completion, because most tokens of a vocabulary begin
            with a space; "" for none.
        stop: Ends every completion and occurs nowhere else in it; "" for none, which suits
            classes of one token that are generated with `max_tokens=1`.
    """

    separator: str = "\n\n###\n\n"
    leading_whitespace: str = " "
    stop: str = "\n"

    def __post_init__(self) -> None:
        if self.leading_whitespace.strip():
            raise PromptFormatError(
                f"leading_whitespace must be white space only, not {self.leading_whitespace!r}."
            )
        for name, marker in (("separator", self.separator), ("stop sequence", self.stop)):
            if marker and marker in self.leading_whitespace:
                raise PromptFormatError(
                    f"The {name} {marker!r} is part of the leading whitespace "
                    f"{self.leading_whitespace!r}: every answer would end before it begins."
                )

    def format_prompt(self, text: str) -> str:
        """Return the prompt as the model has seen it in training: the text and the separator.

        A text that already ends with the separator is returned as it is, so formatting twice
        changes nothing more.

        Raises:
            PromptFormatError: The separator occurs inside the text, where the model would take
                it for the end of the prompt.
            TypeError: It is no text.
        """
        _require_text(text, "a row has its prompt in row['prompt']")
        if not self.separator:
            return text
        body = text.removesuffix(self.separator)
        position = (body + self.separator).find(self.separator)
        if position < len(body):
            raise PromptFormatError(
                f"The prompt contains the separator {self.separator!r} at character {position}, "
                "which marks the end of a prompt. Remove it from the text or choose a separator "
                "that occurs in no prompt."
            )
        return body + self.separator

    def format_completion(self, text: str) -> str:
        """Return the completion as it is trained: whitespace, `text`, stop sequence.

        White space and a stop sequence that are already there are not repeated.

        Raises:
            PromptFormatError: The text is empty, or the stop sequence occurs inside it, where
                every answer would be cut off.
        """
        body = self.bare_completion(text)
        if not body.strip():
            raise PromptFormatError(
                "The completion is empty: there is nothing for the model to learn."
            )
        if self.stop:
            completion = self.leading_whitespace + body
            position = (completion + self.stop).find(self.stop)
            if position < len(completion):
                raise PromptFormatError(
                    f"The completion contains the stop sequence {self.stop!r} at character "
                    f"{position}: every answer would be cut off there. Choose a stop sequence "
                    "that occurs in no completion."
                )
        return self.leading_whitespace + body + self.stop

    def bare_completion(self, text: str) -> str:
        """Return a completion without the whitespace before it and the stop sequence after it."""
        body = text
        if self.stop:
            while body.endswith(self.stop):
                body = body.removesuffix(self.stop)
        return body.lstrip() if self.leading_whitespace else body

    def row(self, prompt: str, completion: str) -> dict[str, str]:
        """Return one training row; see `format_prompt` and `format_completion`."""
        return {
            "prompt": self.format_prompt(prompt),
            "completion": self.format_completion(completion),
        }

    def parse_prompt(self, text: str) -> str:
        """Return the prompt without its separator."""
        return text.removesuffix(self.separator) if self.separator else text

    def parse_completion(self, text: str) -> str:
        """Return the model's answer: up to the stop sequence, without leading whitespace.

        Raises:
            TypeError: It is no text.
        """
        _require_text(text, "an answer of the API has it in answer.choices[0].text")
        answer = text.lstrip() if self.leading_whitespace else text
        return answer.split(self.stop, 1)[0] if self.stop else answer

    def inference_parameters(
        self,
        classes: Iterable[str] | None = None,
        encoding: str | Encoder | None = None,
    ) -> dict[str, Any]:
        """Return the parameters of a completion request that belong to this format.

        Args:
            classes: The class labels, for classification, with or without their whitespace and
                stop sequence. `max_tokens` is then the length of the longest class (1 where all
                are single tokens) and `logprobs` covers every class, up to what the API allows.
            encoding: Encoding in which the classes are counted: its name, that of a model, or an
                encoder, such as `tokens.huggingface(folder)` for an open model. Without one,
                classes with a stop sequence get as many tokens as any tokenizer needs, since
                that ends the answer; the others are counted as `class_tokens` does.

        Returns:
            `stop` (a list, absent where the format has none), and for classification
            `max_tokens` and `logprobs`.

        Raises:
            TypeError: `classes` is one text.
        """
        parameters: dict[str, Any] = {}
        if self.stop:
            parameters["stop"] = [self.stop]
        if classes is None:
            return parameters
        _require_list(classes)
        labels = sorted({self.bare_completion(label) for label in classes})
        if not labels:
            return parameters
        if self.stop and encoding is None:
            # No tokenizer needs more than a token for each byte.
            lengths = [len((self.leading_whitespace + label).encode()) for label in labels]
        else:
            lengths = list(self.class_tokens(labels, encoding).values())
        parameters["max_tokens"] = max(lengths)
        parameters["logprobs"] = min(len(labels), MAX_LOGPROBS)
        return parameters

    def class_tokens(
        self, classes: Iterable[str], encoding: str | Encoder | None = None
    ) -> dict[str, int]:
        """Count the tokens of each class as it is trained, without the stop sequence.

        Args:
            classes: The class labels, with or without their whitespace and stop sequence.
            encoding: As for `inference_parameters`. Without one, words are counted in
                "r50k_base", and each digit, and a space before digits, as a token, because most
                tokenizers that came after it write numbers so.
        """
        from . import tokens  # noqa: PLC0415 - vocabularies only when counting

        _require_list(classes)
        encoder = tokens.encoder(encoding or "r50k_base")
        labels = [self.bare_completion(label) for label in classes]
        texts = [self.leading_whitespace + label for label in labels]
        if encoding is None:
            pieces = [_DIGITS.split(text) for text in texts]
            counts = [sum(encoder.count_batch([*filter(None, found)])) for found in pieces]
        else:
            counts = encoder.count_batch(texts)
        return dict(zip(labels, counts, strict=True))

    def check_row(self, prompt: str, completion: str) -> list[Violation]:
        """Return every way in which a written row departs from this format, prompt first."""
        return [*self._check_prompt(prompt), *self._check_completion(completion)]

    def _check_prompt(self, prompt: str) -> Iterator[Violation]:
        separator = self.separator
        if not separator:
            return
        end = len(prompt) - len(separator)
        if not prompt.endswith(separator):
            end = len(prompt)
            yield Violation(
                "separator-missing",
                "prompt",
                end,
                f"The prompt does not end with the separator {separator!r}.",
            )
        position = prompt.find(separator)
        if 0 <= position < end:
            yield Violation(
                "separator-repeated",
                "prompt",
                position,
                f"The separator {separator!r} also occurs before the end of the prompt.",
            )

    def _check_completion(self, completion: str) -> Iterator[Violation]:
        text = completion.removesuffix(self.stop) if self.stop else completion
        if self.separator and (position := text.find(self.separator)) >= 0:
            yield Violation(
                "separator-in-completion",
                "completion",
                position,
                f"The separator {self.separator!r} occurs in the completion.",
            )
        body = self.bare_completion(completion)
        if not body.strip():
            yield Violation("completion-empty", "completion", 0, "The completion is empty.")
            return
        whitespace = completion[: len(completion) - len(completion.lstrip())]
        if self.leading_whitespace and whitespace != self.leading_whitespace:
            yield Violation(
                "leading-whitespace",
                "completion",
                0,
                f"The completion starts with {whitespace!r}, not with {self.leading_whitespace!r}."
                if whitespace
                else f"The completion does not start with {self.leading_whitespace!r}.",
            )
        if not self.stop:
            return
        end = len(completion) - len(self.stop)
        if not completion.endswith(self.stop):
            end = len(completion)
            yield Violation(
                "stop-missing",
                "completion",
                end,
                f"The completion does not end with the stop sequence {self.stop!r}.",
            )
        position = completion.find(self.stop)
        if 0 <= position < end:
            yield Violation(
                "stop-inside",
                "completion",
                position,
                f"The stop sequence {self.stop!r} occurs before the end of the completion.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the format as plain JSON data, with a version number."""
        return {
            "version": FORMAT_VERSION,
            "separator": self.separator,
            "leading_whitespace": self.leading_whitespace,
            "stop": self.stop,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make a format from what `to_dict` returned.

        Raises:
            PromptFormatError: The version is unknown, or a field is missing or not a string.
        """
        version = data.get("version")
        if version != FORMAT_VERSION:
            raise PromptFormatError(
                f"This prompt format has version {version!r}; this tunesmith reads version "
                f"{FORMAT_VERSION}."
            )
        fields = {name: data.get(name) for name in ("separator", "leading_whitespace", "stop")}
        for name, value in fields.items():
            if not isinstance(value, str):
                raise PromptFormatError(f"The prompt format needs a string {name!r}.")
        return cls(**{name: str(value) for name, value in fields.items()})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the format as JSON, whole or not at all, and return the path."""
        target = Path(path)
        with write_atomically(target) as stream:
            stream.write(json.dumps(self.to_dict(), indent=2).encode() + b"\n")
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a saved format.

        Raises:
            PromptFormatError: The file does not hold a prompt format.
            OSError: The file cannot be read.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise PromptFormatError(f"{os.fspath(path)} is not JSON: {error}.") from None
        if not isinstance(data, dict):
            raise PromptFormatError(f"{os.fspath(path)} does not hold a prompt format.")
        return cls.from_dict(cast("dict[str, Any]", data))


def saved_format(path: str | os.PathLike[str]) -> PromptFormat | None:
    """Return the format that is saved beside a data file, or None.

    Raises:
        PromptFormatError: There is such a file, but it does not hold a prompt format.
    """
    if not Path(path).is_file():
        return None
    beside = format_path(path)
    return PromptFormat.load(beside) if beside.is_file() else None


def format_path(path: str | os.PathLike[str]) -> Path:
    """Return where the format of a data file is saved: `train.jsonl` → `train.format.json`."""
    data = Path(path)
    return data.with_name(data.stem + ".format.json")


def require_prompt_format(value: object) -> None:
    """Refuse what is no prompt format, such as a separator in its place.

    Raises:
        TypeError: It is neither a `PromptFormat` nor None.
    """
    if value is not None and not isinstance(value, PromptFormat):
        shown = f"PromptFormat(separator={value!r})" if isinstance(value, str) else "PromptFormat()"
        raise TypeError(
            f"A prompt format is a PromptFormat, such as {shown}, not {type(value).__name__}."
        )


def _require_text(value: object, where: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"Expected text, not {type(value).__name__}; {where}.")


def _require_list(classes: object) -> None:
    if isinstance(classes, str):
        raise TypeError(f"classes is a list of labels, such as [{classes!r}, …], not one text.")


set_public_module(globals(), "tunesmith.datasets")
