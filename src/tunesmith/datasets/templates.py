"""Makes training examples from raw records, for the cases that the fine-tuning guide describes.

Each function takes records (mappings), writes prompts and completions as the guide advises for
its case, and returns them with the prompt format, hyperparameters and number of rows it advises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from .class_numbers import number_labels
from .dataset import Dataset
from .dataset_errors import DatasetError
from .format_choice import choose_prompt_format
from .prompt_format import PromptFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .task import Task
    from .tokens import Encoder

__all__ = [
    "Examples",
    "chatbot",
    "classification",
    "conditional_generation",
    "describe_properties",
    "entity_extraction",
    "number_classes",
    "product_description",
]

ROWS_PER_CLASS: Final = 100
ROWS_FOR_GENERATION: Final = 500
ROWS_FOR_CHATBOT: Final = 2_000

# Generation overfits sooner than classification: fewer epochs and a lower learning rate.
_GENERATION_PARAMETERS: Final = {"n_epochs": 2, "learning_rate_multiplier": 0.05}


@dataclass(frozen=True, slots=True)
class Examples:
    """Training examples with the format and hyperparameters that suit them.

    Attributes:
        rows: Prompts and completions, not yet in the format.
        prompt_format: The format in which they are to be written.
        hyperparameters: What to start the fine-tune with, besides the files.
        advised_rows: How many rows the guide advises.
        classes: For classification each label and the completion that stands for it.
    """

    rows: list[dict[str, str]]
    prompt_format: PromptFormat
    hyperparameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    advised_rows: int = ROWS_FOR_GENERATION
    classes: Mapping[str, str] = field(default_factory=dict[str, str])

    def dataset(self) -> Dataset:
        """Return the rows in their format."""
        rows = [self.prompt_format.row(**row) for row in self.rows]
        return Dataset.from_rows(rows, prompt_format=self.prompt_format)

    def label_of(self, completion: str) -> str | None:
        """Return the class that a completion of the model names, or None."""
        word = self.prompt_format.parse_completion(completion).strip()
        labels = {name: label for label, name in self.classes.items()}
        return labels.get(word)


def classification(
    records: Iterable[Mapping[str, Any]],
    text: str = "text",
    label: str = "label",
    *,
    encoding: str | Encoder | None = None,
) -> Examples:
    """Write examples for classification: a text, and its label as the completion.

    Args:
        records: One for each text.
        text: Field of the text.
        label: Field of the label.
        encoding: Encoding in which the labels should be single tokens; default "r50k_base".

    Raises:
        DatasetError: A record lacks a field.
    """
    rows = [
        {"prompt": _text(record, text), "completion": _text(record, label)} for record in records
    ]
    labels = sorted({row["completion"] for row in rows})
    return Examples(
        rows,
        choose_prompt_format(rows, "classification", encoding),
        {"model": "ada"},
        ROWS_PER_CLASS * len(labels),
        {name: name for name in labels},
    )


def number_classes(
    records: Iterable[Mapping[str, Any]],
    text: str = "text",
    label: str = "label",
    *,
    encoding: str | Encoder | None = None,
) -> Examples:
    """Write examples for classification into many classes, each of which becomes a number.

    Only numbers that are single tokens with a space before them are used, the labels in
    alphabetical order, so that the same labels always get the same numbers.

    Args:
        records: One for each text.
        text: Field of the text.
        label: Field of the label.
        encoding: Encoding in which the numbers are single tokens; default "r50k_base".

    Raises:
        DatasetError: A record lacks a field, or there are more than 500 classes.
    """
    named = classification(records, text, label, encoding=encoding)
    numbers = number_labels(named.classes, encoding)
    rows = [{**row, "completion": numbers[row["completion"]]} for row in named.rows]
    return Examples(
        rows,
        choose_prompt_format(rows, "classification", encoding),
        named.hyperparameters,
        named.advised_rows,
        numbers,
    )


def conditional_generation(
    records: Iterable[Mapping[str, Any]], source: str = "source", target: str = "target"
) -> Examples:
    """Write examples for text generated from text, such as headlines from articles.

    Args:
        records: One for each pair.
        source: Field of the input text.
        target: Field of the text to write.

    Raises:
        DatasetError: A record lacks a field.
    """
    rows = [
        {"prompt": _text(record, source), "completion": _text(record, target)} for record in records
    ]
    return _generation(rows)


def entity_extraction(
    records: Iterable[Mapping[str, Any]],
    text: str = "text",
    entities: str = "entities",
    *,
    order: Literal["alphabetical", "appearance"] = "alphabetical",
) -> Examples:
    """Write examples for entity extraction: one entity a line, always in the same order.

    Args:
        records: One for each text; its entities are a list of strings.
        text: Field of the text.
        entities: Field of the entities.
        order: "alphabetical", or the order of "appearance" in the text; entities that do not
            appear come last, in alphabetical order.

    Raises:
        DatasetError: A record lacks a field.
    """
    rows: list[dict[str, str]] = []
    for record in records:
        source = _text(record, text)
        names = sorted({str(name).strip() for name in _field(record, entities)})
        if order == "appearance":
            names.sort(key=lambda name: _position(source, name))
        rows.append({"prompt": source, "completion": "\n".join(names)})
    return _generation(rows)


def _position(text: str, name: str) -> int:
    position = text.find(name)
    return len(text) if position < 0 else position


def chatbot(
    conversations: Iterable[Mapping[str, Any] | Sequence[Mapping[str, Any]]],
    *,
    customer: str = "Customer",
    agent: str = "Agent",
) -> Examples:
    r"""Write examples for a chatbot: one row for each reply of the agent.

    The prompt holds the conversation so far, with a system message as its introduction; the
    separator is the agent's name after an empty line, which no earlier turn has.

    Args:
        conversations: Lists of messages with "role" and "content", or rows with "messages".
        customer: Name of the user in the text.
        agent: Name of the assistant in the text.

    Raises:
        DatasetError: A message has no text.
    """
    rows: list[dict[str, str]] = []
    for conversation in conversations:
        messages: Sequence[Mapping[str, Any]] = (
            conversation["messages"] if isinstance(conversation, Mapping) else conversation
        )
        lines: list[str] = []
        for message in messages:
            content = _line(_text(message, "content"))
            if message.get("role") == "system":
                lines.append(f"{content}\n\n###")
            elif message.get("role") == "assistant":
                rows.append({"prompt": "\n".join(lines), "completion": content})
                lines.append(f"{agent}: {content}")
            else:
                lines.append(f"{customer}: {content}")
    chosen = choose_prompt_format(rows, "conditional generation")
    form = PromptFormat(f"\n\n{agent}:", " ", chosen.stop)
    return Examples(rows, form, _GENERATION_PARAMETERS, ROWS_FOR_CHATBOT)


def _line(text: str) -> str:
    """Return a turn without empty lines, which separate the parts of a prompt."""
    return "\n".join(line for line in text.strip().splitlines() if line.strip())


def product_description(
    records: Iterable[Mapping[str, Any]],
    description: str = "description",
    *,
    name: str = "name",
) -> Examples:
    """Write examples for descriptions from properties, which become sentences first.

    Args:
        records: One for each product: its name, its description, and any other properties.
        description: Field of the description to learn.
        name: Field of the product's name.

    Raises:
        DatasetError: A record lacks a field.
    """
    rows: list[dict[str, str]] = []
    for record in records:
        properties = {key: value for key, value in record.items() if key not in {description, name}}
        prompt = describe_properties(_text(record, name), properties)
        rows.append({"prompt": prompt, "completion": _text(record, description)})
    return _generation(rows)


def describe_properties(name: str, properties: Mapping[str, Any]) -> str:
    """Describe properties in sentences, which models understand better than lists.

    Empty properties are left out; lists become enumerations.
    """
    sentences = [f"The product is called {name}."]
    for key, value in properties.items():
        listed = isinstance(value, list | tuple)
        words = ", ".join(str(item) for item in cast("list[Any]", value)) if listed else str(value)
        if value is not None and words.strip():
            label = key.replace("_", " ").strip().lower()
            sentences.append(f"Its {label} {'are' if listed else 'is'} {words.strip()}.")
    return " ".join(sentences)


def _generation(rows: list[dict[str, str]]) -> Examples:
    task: Task = "conditional generation"
    return Examples(rows, choose_prompt_format(rows, task), _GENERATION_PARAMETERS)


def _field(record: Mapping[str, Any], name: str) -> Any:
    if record.get(name) is None:
        names = ", ".join(map(repr, record))
        raise DatasetError(f"A record has no {name!r}; it has {names or 'no fields'}.")
    return record[name]


def _text(record: Mapping[str, Any], name: str) -> str:
    return str(_field(record, name)).strip()
