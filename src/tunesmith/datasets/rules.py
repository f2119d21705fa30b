"""The rules: the id, severity and wording of every finding.

Ids are stable: reports, baselines and links depend on them. A destination may change the severity
of a rule, nothing else. How a rule is checked is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .findings import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .findings import LocationCounter, Severity

__all__ = ["RULES", "Rule", "make_finding"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        severity: Default severity of a finding.
        unit: What is counted, in the singular.
        summary: Predicate of the sentence about one; after a `|` that about many, if it differs.
        fix: What to do about it.
    """

    severity: Severity
    unit: str
    summary: str
    fix: str = ""

    def sentence(self, count: int) -> str:
        """Return the total as a sentence: `3 rows have an empty prompt`."""
        one, _, many = self.summary.partition("|")
        unit = self.unit if count == 1 else _plural(self.unit)
        return f"{count:,} {unit} {one if count == 1 else many or one}"


def _plural(unit: str) -> str:
    return f"{unit}es" if unit.endswith("s") else f"{unit}s"


_DROP: Final = "Drop or repair the rows."

RULES: Final[Mapping[str, Rule]] = {
    # The file
    "file-unreadable": Rule("error", "file", "cannot be read"),
    "file-empty": Rule("error", "file", "has no rows", "Choose a file that has rows."),
    "file-format": Rule(
        "error",
        "file",
        "is not JSONL",
        "Convert it: tunesmith tools fine_tunes.prepare_data -f FILE",
    ),
    "file-size": Rule("error", "file", "is larger than the destination accepts", "Split it."),
    "file-bom": Rule("info", "file", "starts with a byte order mark"),
    "file-bom-missing": Rule(
        "warning",
        "file",
        "has no byte order mark",
        "Write it with one: `Dataset.write(path, byte_order_mark=True)`, or --bom of "
        "tunesmith tools fine_tunes.prepare_data.",
    ),
    "rows-too-few": Rule("error", "file", "has fewer rows than the destination requires"),
    "rows-too-many": Rule("error", "file", "has more rows than the destination accepts"),
    "destination-retired": Rule(
        "error", "file", "cannot be trained on there any more", "Choose another destination."
    ),
    "shape-retired": Rule(
        "warning", "file", "has rows of a shape from which no model there learns any more"
    ),
    "model-shape": Rule(
        "error",
        "file",
        "has rows of a shape from which the model does not learn",
        "Convert the rows, or choose another model.",
    ),
    "model-retired": Rule(
        "warning", "model", "can no longer be trained or used", "Choose another model."
    ),
    "image-rows-too-many": Rule(
        "error", "file", "has more rows with images than the destination accepts"
    ),
    "shape-unsupported": Rule(
        "error",
        "file",
        "has rows of a shape that the destination does not accept",
        "Choose another destination, or add what is missing: for supervised fine-tuning each "
        "conversation ends with the answer to learn.",
    ),
    # Lines and bytes
    "encoding": Rule(
        "error",
        "line",
        "is not valid UTF-8|are not valid UTF-8",
        "Save the file as UTF-8, or name its encoding: encoding='…', --encoding NAME.",
    ),
    "encoding-guessed": Rule(
        "warning",
        "line",
        "is not UTF-8 and was read as Windows-1252|are not UTF-8 and were read as Windows-1252",
        "Save the file as UTF-8, or name its encoding: encoding='…', --encoding NAME.",
    ),
    "json-syntax": Rule(
        "error", "line", "is not valid JSON|are not valid JSON", "Repair or drop the lines."
    ),
    "json-not-object": Rule(
        "error", "line", "is JSON but not an object|are JSON but not objects", _DROP
    ),
    "json-duplicate-key": Rule(
        "error",
        "row",
        "names a key twice|name a key twice",
        "Keep one of the two: readers disagree on which one counts.",
    ),
    "json-not-finite": Rule(
        "error",
        "row",
        "holds NaN or Infinity, which is not JSON|hold NaN or Infinity, which is not JSON",
    ),
    "json-too-deep": Rule(
        "error",
        "row",
        "is nested too deeply to be read|are nested too deeply to be read",
        "Drop the rows, or write what is nested as text.",
    ),
    "lone-surrogate": Rule(
        "error",
        "row",
        "holds half of a surrogate pair|hold half of a surrogate pair",
        "Remove the broken character; it cannot be written as UTF-8.",
    ),
    "control-character": Rule(
        "warning", "row", "holds a control character|hold control characters", "Remove them."
    ),
    "blank-line": Rule("warning", "line", "is blank|are blank", "Remove them."),
    "table-columns": Rule(
        "error",
        "record",
        "does not have as many fields as the header|do not have as many fields as the header",
        "Quote fields that contain the separator or a line break.",
    ),
    "table-header": Rule("error", "header", "is not usable", "Name each column once."),
    "table-quote": Rule(
        "error",
        "line",
        "begins a quoted field that does not end|begin quoted fields that do not end",
        "Close the quote, and double the quotes within a quoted field.",
    ),
    "table-line": Rule(
        "error", "line", "is not a line of a table|are not lines of a table", "Quote its fields."
    ),
    "column-unnamed": Rule(
        "warning",
        "column",
        "has no name|have no names",
        "Name it in the first row, or empty its cells.",
    ),
    "columns-not-read": Rule(
        "info",
        "row",
        "holds text in a column that was not chosen|hold text in columns that were not chosen",
    ),
    "cell-value": Rule(
        "warning",
        "cell",
        "cannot be read as what its format says|cannot be read as what their format says",
        "Look at the cell: its stored value was kept.",
    ),
    "cell-unreadable": Rule(
        "error", "cell", "cannot be read|cannot be read", "Save the file again where it was made."
    ),
    "bom-inside": Rule(
        "warning",
        "line",
        "starts with a byte order mark, as where files were joined"
        "|start with a byte order mark, as where files were joined",
        "Remove it.",
    ),
    "encoding-replaced": Rule(
        "warning",
        "line",
        "holds bytes that its encoding does not have, read as U+FFFD"
        "|hold bytes that their encoding does not have, read as U+FFFD",
        "Save the file as UTF-8, or name its encoding: encoding='…', --encoding NAME.",
    ),
    "sheets-ignored": Rule("warning", "sheet", "was not read|were not read"),
    # Row shapes
    "mixed-shapes": Rule(
        "error", "row", "has a different shape from the rest|have a different shape from the rest"
    ),
    "foreign-format": Rule(
        "error",
        "row",
        "has a format that is not trained on|have a format that is not trained on",
        "Convert them: datasets.read(FILE, to='chat'), tunesmith tools convert FILE --to chat, or "
        "tunesmith tools fine_tunes.prepare_data -f FILE.",
    ),
    "row-not-converted": Rule(
        "error", "row", "cannot be converted|cannot be converted", "Repair or drop them."
    ),
    "conversion-loss": Rule(
        "warning",
        "row",
        "says something that the other format cannot say|say something that the other format "
        "cannot say",
        "See what is left out; choose another format where it matters.",
    ),
    "missing-field": Rule(
        "error",
        "row",
        "is missing a field|are missing a field",
        "Add the fields. For columns with other names, use --prompt NAME and --completion NAME of "
        "tunesmith tools fine_tunes.prepare_data.",
    ),
    "unknown-field": Rule(
        "warning",
        "field",
        "is not part of the format|are not part of the format",
        "Remove them; some services refuse rows with unknown fields.",
    ),
    "field-type": Rule(
        "error", "field", "has a value of the wrong type|have values of the wrong type"
    ),
    "completion-empty": Rule(
        "warning", "row", "has an empty completion|have an empty completion", "Drop the rows."
    ),
    "messages-empty": Rule("error", "row", "has no messages|have no messages", _DROP),
    "role-missing": Rule("error", "message", "has no role|have no role"),
    "role-unknown": Rule("error", "message", "has an unknown role|have unknown roles"),
    "content-missing": Rule("error", "message", "has no content|have no content"),
    "content-empty": Rule("warning", "message", "is empty|are empty"),
    "part-type": Rule("error", "part", "has a type not allowed there|have types not allowed there"),
    "part-untrainable": Rule(
        "warning", "part", "cannot be used in this method|cannot be used in this method"
    ),
    "content-mixed": Rule(
        "error",
        "row",
        "mixes texts and lists of parts|mix texts and lists of parts",
        "Write every content as a list of parts, or every one as a text.",
    ),
    "content-and-calls": Rule(
        "error", "message", "has both content and calls|have both content and calls"
    ),
    "column-refused": Rule("error", "key", "is refused there|are refused there", "Remove them."),
    "role-order": Rule(
        "error", "message", "is not allowed at its place|are not allowed at their place"
    ),
    "tool-call-id-form": Rule(
        "error",
        "id",
        "of a call has a form that is refused there|of calls have a form that is refused there",
    ),
    "image-source": Rule(
        "error",
        "image",
        "cannot be read by the destination|cannot be read by the destination",
        "Give an address, or the image itself as data:image/png;base64,….",
    ),
    "image-type": Rule(
        "error",
        "image",
        "is not JPEG, PNG or WEBP as its type says|are not JPEG, PNG or WEBP as their type says",
    ),
    "image-size": Rule(
        "error", "image", "is too large|are too large", "Reduce them: 10 MB are accepted."
    ),
    "image-detail": Rule("error", "image", "has an unknown detail|have an unknown detail"),
    "images-too-many": Rule(
        "error", "row", "has too many images|have too many images", "Divide the rows."
    ),
    "weight-value": Rule("error", "weight", "is neither 0 nor 1|are neither 0 nor 1"),
    "weight-ignored": Rule("warning", "weight", "has no effect|have no effect"),
    "weights-all-zero": Rule(
        "warning", "row", "has nothing to learn from|have nothing to learn from"
    ),
    "assistant-missing": Rule(
        "error", "row", "has no assistant message|have no assistant message", _DROP
    ),
    "last-message": Rule(
        "warning",
        "row",
        "does not end with the assistant|do not end with the assistant",
        "Cut the messages after the last assistant message.",
    ),
    "grader-fields-missing": Rule(
        "info",
        "row",
        "has neither an answer nor another field and is taken for a reinforcement row|have neither "
        "an answer nor another field and are taken for reinforcement rows",
        "For supervised fine-tuning, each conversation has to end with the answer to learn.",
    ),
    "last-message-assistant": Rule(
        "warning", "row", "already contains the answer|already contain the answer"
    ),
    "tool-type": Rule("error", "tool", "is not a function|are not functions"),
    "tool-name": Rule(
        "error", "function", "has a name that is refused|have names that are refused"
    ),
    "tool-schema": Rule(
        "warning", "tool", "has a schema with an unknown type|have schemas with unknown types"
    ),
    "tool-undeclared": Rule("warning", "call", "names an undeclared tool|name undeclared tools"),
    "tool-call-id-missing": Rule("error", "id", "is missing on a call|are missing on calls"),
    "tool-call-type": Rule("error", "call", "has no valid type|have no valid type"),
    "tool-arguments-type": Rule(
        "error", "call", "has arguments that are not a string|have arguments that are not a string"
    ),
    "tool-arguments-json": Rule(
        "warning", "call", "has arguments that are not JSON|have arguments that are not JSON"
    ),
    "tool-arguments-object": Rule(
        "error",
        "call",
        "has arguments that are not a JSON object|have arguments that are not a JSON object",
        'Write them once as JSON text: "{\\"city\\": \\"Oslo\\"}".',
    ),
    "tool-arguments-schema": Rule(
        "warning",
        "call",
        "does not fit the schema of its tool|do not fit the schema of their tool",
        "The model would learn to call the tool wrongly: correct the call or the schema.",
    ),
    "tool-result-orphan": Rule("warning", "tool message", "answers no call|answer no call"),
    "tool-call-unanswered": Rule("warning", "call", "is never answered|are never answered"),
    "output-count": Rule(
        "error", "output", "does not hold exactly one message|do not hold exactly one message"
    ),
    "outputs-identical": Rule(
        "warning", "row", "prefers an answer to itself|prefer an answer to itself", _DROP
    ),
    # Prompt format
    "prompt-empty": Rule("warning", "row", "has an empty prompt|have an empty prompt"),
    "separator-missing": Rule(
        "warning",
        "prompt",
        "does not end with the separator|do not end with the separator",
        "Append one fixed separator to every prompt, and to prompts at inference.",
    ),
    "separator-repeated": Rule(
        "warning",
        "prompt",
        "contains the separator before its end|contain the separator before their end",
        "Remove it from the text, or choose another separator.",
    ),
    "separator-in-completion": Rule(
        "warning", "completion", "contains the separator|contain the separator"
    ),
    "leading-whitespace": Rule(
        "warning",
        "completion",
        "does not start with the expected whitespace|do not start with the expected whitespace",
        "Start every completion with one space: most tokens begin with one.",
    ),
    "stop-missing": Rule(
        "warning",
        "completion",
        "does not end with the stop sequence|do not end with the stop sequence",
        "Append one fixed stop sequence to every completion, and send it as `stop`.",
    ),
    "stop-inside": Rule(
        "warning",
        "completion",
        "contains the stop sequence before its end|contain the stop sequence before their end",
        "Every answer would be cut off there: choose another stop sequence.",
    ),
    "stop-cuts-label": Rule(
        "warning",
        "class",
        "ends with letters that all classes share|end with letters that all classes share",
        "Append a stop sequence that is not part of a label, such as a newline.",
    ),
    "prompts-identical": Rule(
        "warning",
        "prompt",
        "is the same as all others|are all the same",
        "For text generation without a prompt, leave the prompts empty.",
    ),
    "prompt-prefix": Rule(
        "info",
        "prompt",
        "starts with the same text|start with the same text",
        "A fine-tuned model needs no instruction in every prompt: the prefix costs tokens.",
    ),
    "completion-prefix": Rule(
        "info", "completion", "starts with the same text|start with the same text"
    ),
    "upper-case": Rule(
        "info",
        "column",
        "is mostly in upper case|are mostly in upper case",
        "Lower case takes fewer tokens, if case does not matter.",
    ),
    # Duplicates
    "duplicate-rows": Rule(
        "warning", "row", "repeats an earlier one|repeat an earlier one", "Keep one of each."
    ),
    "near-duplicates": Rule(
        "info", "row", "is almost the same as another|are almost the same as another"
    ),
    "conflicting-completions": Rule(
        "warning",
        "prompt",
        "has different completions|have different completions",
        "Several answers to one question are fine if each is right.",
    ),
    "validation-overlap": Rule(
        "error",
        "validation row",
        "is also in the training data|are also in the training data",
        "Remove them from one of the two files.",
    ),
    "validation-prompt-overlap": Rule(
        "warning",
        "validation row",
        "has a prompt that is in the training data|have prompts that are in the training data",
    ),
    "validation-near-overlap": Rule(
        "warning",
        "validation row",
        "is almost the same as a training row|are almost the same as training rows",
    ),
    "validation-shape": Rule("error", "file", "has a different shape from the training data"),
    # Tokens
    "token-limit": Rule(
        "warning",
        "row",
        "is longer than the token limit|are longer than the token limit",
        "Shorten or split them: what is beyond the limit is cut off.",
    ),
    "token-limit-unknown": Rule(
        "info",
        "row",
        "may be longer than the token limit|may be longer than the token limit",
        "Install tunesmith[datasets] for exact counts.",
    ),
    "boundary-unstable": Rule(
        "warning",
        "row",
        "is tokenized differently at the boundary|are tokenized differently at the boundary",
        "Start completions with a space, or end prompts with a separator that ends in a letter.",
    ),
    # Classes and counts
    "class-not-single-token": Rule(
        "info",
        "class",
        "takes more than one token|take more than one token",
        "Single-token classes can be read with max_tokens=1; numbers serve for many classes.",
    ),
    "class-first-token-shared": Rule(
        "info",
        "class",
        "starts with the same token as another|start with the same token as another",
        "Ask for all tokens of a class: the first one does not tell which it is.",
    ),
    "class-begins-another": Rule(
        "warning",
        "class",
        "begins another|begin another",
        "End every completion with the same stop sequence, or metrics for classes are refused.",
    ),
    "class-variants": Rule(
        "warning",
        "class",
        "differs from another only in case or punctuation"
        "|differ from another only in case or punctuation",
        "Spell each class in one way.",
    ),
    "class-too-few": Rule(
        "warning", "class", "has few examples|have few examples", "Aim for 100 examples a class."
    ),
    "class-single": Rule(
        "warning",
        "class",
        "is the only one: there is nothing to classify",
        "Add rows of other classes.",
    ),
    "row-count": Rule("info", "row", "is few|are few", "Each doubling of the rows helps."),
}


def make_finding(
    rule_id: str,
    counter: LocationCounter,
    *,
    severity: Severity | None = None,
    detail: str = "",
    fix: str | None = None,
) -> Finding:
    """Return the finding for a broken rule.

    Args:
        rule_id: Id of the rule.
        counter: How often the rule was broken, and the first locations.
        severity: Overrides the severity of the rule.
        detail: Ends the sentence, after a colon; default: the message of the first location.
        fix: Overrides the fix of the rule.
    """
    rule = RULES[rule_id]
    message = rule.sentence(counter.count)
    first = counter.examples[0] if counter.examples else None
    if detail:
        message += f": {detail}"
    elif first is not None:
        message += f": line {first.line}: {first.message}" if first.message else f": {first}"
    return Finding(
        id=rule_id,
        severity=severity or rule.severity,
        message=message,
        count=counter.count,
        examples=tuple(counter.examples),
        fix=rule.fix if fix is None else fix,
    )
