"""Conversion between the formats in which people have training data.

Every row is read into an `Example` and written from it, so any format can become any other that
can say the same. What a conversion leaves out is named, and a row that cannot be converted is an
error with its place; none is left out unsaid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tunesmith.datasets.chat_fixes import unwrap_texts
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.recognition import DATA_FORMATS, DataFormat, recognise

from . import anthropic, columns, gemini, native, sharegpt, trl
from .example import Example, NotConvertibleError, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunesmith.datasets.prompt_format import PromptFormat

__all__ = [
    "CONVERTIBLE",
    "Example",
    "NotConvertibleError",
    "Written",
    "convert_row",
    "row_converter",
]


class _Converter(NamedTuple):
    read: Callable[[dict[str, Any]], Example]
    write: Callable[[Example], Written]


_CONVERTERS: Final[Mapping[str, _Converter]] = {
    "prompt_completion": _Converter(native.read_prompt_completion, native.write_prompt_completion),
    "chat": _Converter(native.read_chat, native.write_chat),
    "preference": _Converter(native.read_preference, native.write_preference),
    "reinforcement": _Converter(native.read_reinforcement, native.write_reinforcement),
    "alpaca": _Converter(columns.read_alpaca, columns.write_alpaca),
    "sharegpt": _Converter(sharegpt.read, sharegpt.write),
    "trl_preference": _Converter(trl.read_preference, trl.write_preference),
    "trl_prompt_completion": _Converter(trl.read_prompt_completion, trl.write_prompt_completion),
    "trl_prompt": _Converter(trl.read_prompt, trl.write_prompt),
    "kto": _Converter(trl.read_kto, trl.write_kto),
    "anthropic": _Converter(anthropic.read, anthropic.write),
    "gemini": _Converter(gemini.read, gemini.write),
    "question_answer": _Converter(columns.read_question_answer, columns.write_question_answer),
    "input_output": _Converter(columns.read_input_output, columns.write_input_output),
    "text": _Converter(columns.read_text, columns.write_text),
}

CONVERTIBLE: Final = tuple(_CONVERTERS)
"""Names of the formats that can be read and written."""

# These keep all fields of a row, for a grader.
_KEEP_FIELDS: Final = frozenset({"reinforcement", "trl_prompt"})


def row_converter(
    target: str, source: str | None = None, prompt_format: PromptFormat | None = None
) -> Callable[[dict[str, Any]], Written]:
    """Return the function that converts a row.

    Args:
        target: Name of the format to write.
        source: Name of the format to read; each row is recognised by default.
        prompt_format: The markers in prompt/completion rows, which are not part of the texts.

    Raises:
        DatasetError: There is no such format, or it cannot be converted.
    """
    for name in (target, source):
        if name is not None and name not in _CONVERTERS:
            known = ", ".join(_CONVERTERS)
            raise DatasetError(f"There is no format {name!r} to convert: choose one of {known}.")

    def convert(row: dict[str, Any]) -> Written:
        if prompt_format is not None and target != "prompt_completion":
            row = _without_markers(row, prompt_format)
        return convert_row(row, target, source)

    return convert


def _without_markers(row: dict[str, Any], prompt_format: PromptFormat) -> dict[str, Any]:
    prompt, completion = row.get("prompt"), row.get("completion")
    if not isinstance(prompt, str) or not isinstance(completion, str):
        return row
    text = prompt_format.bare_completion(completion)
    return {**row, "prompt": prompt_format.parse_prompt(prompt), "completion": text}


def convert_row(row: dict[str, Any], target: str, source: str | None = None) -> Written:
    """Convert one row.

    Args:
        row: The row.
        target: Name of the format to write, one of `CONVERTIBLE`.
        source: Name of the format to read; recognised by default.

    Returns:
        The rows that say the same, and what they leave out; a row that has the format already is
        returned as it is.

    Raises:
        NotConvertibleError: The row is of no known format, or says what the other cannot say.
    """
    found = DATA_FORMATS[source] if source else recognise(row)
    if found is None or (source and not found.matches(row)):
        what = f"it is not of the format {found.label}" if found else "it is of no known format"
        raise NotConvertibleError(f"{what}; its keys are {', '.join(map(repr, row)) or 'none'}")
    if found.name == target:
        return Written([unwrap_texts(row) if "messages" in row else row], [])
    try:
        return _convert(row, found, target)
    except NotConvertibleError as error:
        label = DATA_FORMATS[target].label
        message = f"this row of the format {found.label} cannot be written as {label}: {error}"
        raise NotConvertibleError(message, error.path) from None


def _convert(row: dict[str, Any], source: DataFormat, target: str) -> Written:
    if source.name not in _CONVERTERS:
        raise NotConvertibleError("rows of this format cannot be converted")
    example = _CONVERTERS[source.name].read(row)
    rows, lost = _CONVERTERS[target].write(example)
    lost = [*example.lost, *lost]
    if target not in _KEEP_FIELDS:
        lost += [f"'{name}'" for name in example.rest]
    return Written(rows, list(dict.fromkeys(lost)))
