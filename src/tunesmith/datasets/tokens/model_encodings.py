"""Maps the name of a model to its encoding.

tiktoken has such a map, too, but takes `ft:gpt-4.1-mini…` for a GPT-4 and returns cl100k_base,
where o200k_base is correct.
"""

from __future__ import annotations

import re
from typing import Final

from .encoder import UnknownEncodingError

__all__ = ["ENCODINGS", "base_model", "encoding_for_model"]

ENCODINGS: Final = ("r50k_base", "p50k_base", "cl100k_base", "o200k_base")

# First match wins; each pattern is matched against the whole base name.
_RULES: Final = tuple(
    (re.compile(pattern), encoding)
    for pattern, encoding in (
        (r"(chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-oss)(-.*)?", "o200k_base"),
        (r"gpt-[5-9]([.-].*)?", "o200k_base"),
        (r"o\d+(-.*)?", "o200k_base"),
        (r"(gpt-4|gpt-3\.5|gpt-35)(-.*)?", "cl100k_base"),
        (r"(babbage|davinci)-002", "cl100k_base"),
        (r"text-embedding-.*", "cl100k_base"),
        (r"text-davinci-00[23]|text-davinci-edit-001", "p50k_base"),
        (r"code-search-.*", "r50k_base"),
        (r"code-.*|(davinci|cushman)-codex", "p50k_base"),
        (r"(text-)?(ada|babbage|curie|davinci)(-001|-instruct-beta)?", "r50k_base"),
        (r"text-(similarity|search)-.*|gpt-?2(-.*)?", "r50k_base"),
    )
)


def base_model(model: str) -> str:
    """Return the base model of a fine-tuned model's name, or the name itself.

    `ft:gpt-4o-mini-2024-07-18:org:suffix:id` and `ada:ft-org:suffix-2022-02-15-04-21-04` are the
    two grammars.
    """
    name = model.strip()
    if name.startswith("ft:"):
        return name.split(":")[1]
    return name.split(":", 1)[0]


def encoding_for_model(model: str) -> str:
    """Return the name of the encoding that a hosted model uses.

    Args:
        model: A base model, a dated snapshot, or a fine-tuned model of either grammar. The name
            of an encoding is returned as it is.

    Raises:
        UnknownEncodingError: The name belongs to no known family; open models have their
            own tokenizers.
    """
    if model in ENCODINGS:
        return model
    base = base_model(model)
    for pattern, encoding in _RULES:
        if pattern.fullmatch(base):
            return encoding
    raise UnknownEncodingError(
        f"No encoding is known for the model {model!r}. Name one of {', '.join(ENCODINGS)}, or "
        "pass the folder of an open model to tunesmith.datasets.tokens.huggingface()."
    )
