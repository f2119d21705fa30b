"""The fixes that give a row its prompt format.

A prompt format has two markers, the separator and the stop sequence. Before a marker is written
at the end of a text, every other occurrence is removed from the text: the model would take it for
the end of the prompt or of the completion. The transforms keep the rules of `fixes`.

Every row of a file passes here, so each transform begins with a cheap test of the common rows: no
marker in the text, or one at its end. `head` proves that none is inside.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .fixes import FIELDS, with_text, with_texts
from .format_markers import head, with_typed_line_breaks, without_separators, without_stops
from .prompt_format import PromptFormatError

if TYPE_CHECKING:
    from .fixes import Transform, Value
    from .prompt_format import PromptFormat

__all__ = [
    "remove_inner_separators",
    "remove_inner_stops",
    "write_leading_whitespace",
    "write_separator",
    "write_stop",
    "write_typed_line_breaks",
]


def remove_inner_separators(prompt_format: PromptFormat) -> Transform:
    """Remove the separator from texts, except at the end of the prompt."""
    separator, stop = prompt_format.separator, prompt_format.stop
    start, space = head(separator), prompt_format.leading_whitespace

    def transform(value: Value) -> Value:
        prompt, completion = value["prompt"], value["completion"]
        # The whitespace counts: the completion "->" would itself become the separator " ->".
        written = _begin_with(space, completion)
        if start not in prompt.removesuffix(separator) and start not in written:
            return value
        # One text may be both: at the end of a completion it is the stop sequence.
        answer = written.removesuffix(stop)
        if separator not in answer and _occurs_only_at_end(prompt, separator):
            return value
        bare = prompt_format.parse_prompt(prompt)
        ending = separator if prompt.endswith(separator) else ""
        texts = {"prompt": _without_marker_before(bare, separator) + ending}
        if separator in answer:
            clean = with_typed_line_breaks(_without_marker(answer, separator))
            texts["completion"] = clean + written[len(answer) :]
        return with_texts(value, texts)

    return transform


def remove_inner_stops(prompt_format: PromptFormat) -> Transform:
    """Remove the stop sequence from completions, except at their end."""
    separator, stop = prompt_format.separator, prompt_format.stop
    stop_start, space = head(stop), prompt_format.leading_whitespace

    def transform(value: Value) -> Value:
        completion = value["completion"]
        answer = completion.removesuffix(stop)
        if stop_start not in _begin_with(space, answer):
            return value
        body = prompt_format.bare_completion(completion)
        # The whitespace counts: the completion "END" would itself become the stop sequence " END".
        text = prompt_format.leading_whitespace + body
        if (text + stop).find(stop) == len(text):
            return value
        start = (
            len(completion) - len(completion.lstrip()) if prompt_format.leading_whitespace else 0
        )
        ending = completion[start + len(body) :]
        clean = _without_marker_before(text, stop)
        while separator and separator in clean:
            # The texts before and after the removed stop sequence have formed a separator.
            clean = _without_marker_before(_without_marker(clean, separator), stop)
        if prompt_format.leading_whitespace:
            clean = clean.lstrip()
        return with_texts(value, {"completion": completion[:start] + clean + ending})

    return transform


def write_separator(prompt_format: PromptFormat) -> Transform:
    """End every prompt with the separator, which takes the place of any other one there."""
    separator = prompt_format.separator
    start = head(separator)

    def transform(value: Value) -> Value:
        prompt = value["prompt"]
        bare = without_separators(prompt, separator)
        if separator.startswith("\n") and not prompt.endswith(separator):
            bare = bare.rstrip("\n")
        if start not in bare:
            return with_text(value, "prompt", bare + separator)
        if bare != prompt.removesuffix(separator):
            prompt = _without_marker_before(bare, separator)
        try:
            return with_texts(value, {"prompt": prompt_format.format_prompt(prompt)})
        except PromptFormatError:
            return value  # the separator is inside, and the step that removes it is disabled

    return transform


def write_leading_whitespace(prompt_format: PromptFormat) -> Transform:
    """Start every completion with the whitespace of the format."""

    def transform(value: Value) -> Value:
        completion = prompt_format.leading_whitespace + value["completion"].lstrip()
        return with_text(value, "completion", completion)

    return transform


def write_stop(prompt_format: PromptFormat) -> Transform:
    """End every completion with exactly one stop sequence, in place of any other one there."""
    stop = prompt_format.stop
    start = head(stop)

    def transform(value: Value) -> Value:
        completion = value["completion"]
        bare = without_stops(completion, stop)
        if not bare.strip():
            bare = completion.removesuffix(stop)  # a marker is all there is: it is the answer
        elif start in bare and not completion.endswith(stop):
            bare = _without_marker_before(bare, stop)
        return with_text(value, "completion", bare + stop)

    return transform


def write_typed_line_breaks(value: Value) -> Value:
    r"""Write `\n` that was typed at the end of a text as a line break."""
    if "\\" not in value["prompt"] and "\\" not in value["completion"]:
        return value
    return with_texts(value, {name: with_typed_line_breaks(value[name]) for name in FIELDS})


def _begin_with(whitespace: str, completion: str) -> str:
    """Return a completion as a format with this whitespace writes its beginning."""
    return whitespace + completion.lstrip() if whitespace else completion


def _occurs_only_at_end(text: str, marker: str) -> bool:
    """Return whether the marker, written once at the end of the text, occurs only there."""
    bare = text.removesuffix(marker)
    return (bare + marker).find(marker) == len(bare)


def _without_marker_before(text: str, marker: str) -> str:
    """Return the text without the marker, so that none begins before the one written after it."""
    text = _without_marker(text, marker)
    while text and (text + marker).find(marker) < len(text):
        text = text[:-1]
    return text


def _without_marker(text: str, marker: str) -> str:
    """Return the text without the marker; words before and after it stay separate."""
    gap = "\n" if "\n" in marker and marker != "\n" else " " if marker != " " else ""

    def replacement(match: re.Match[str]) -> str:
        before, after = text[: match.start()], text[match.end() :]
        separate = not before or before[-1].isspace() or not after or after[0].isspace()
        return "" if separate else gap

    while marker in text:
        text = re.sub(re.escape(marker), replacement, text)
    return text
