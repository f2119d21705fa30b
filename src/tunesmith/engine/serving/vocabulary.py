"""What prompts and answers need to know of a model: tokenizer, special tokens, context length.

`Vocabulary` is what the rest of serving relies on. A model that this process generates with
provides it itself; for a model that another server generates with, `read_vocabulary` reads it
from the model's folder with the tokenizers library alone, which needs neither torch nor
transformers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.engine.models.chat_template import end_token_ids, select_template

from .detokenizer import TokenBytes
from .generation_errors import GenerationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["END_OF_TEXT", "FileVocabulary", "Vocabulary", "read_vocabulary"]

END_OF_TEXT = "<|endoftext|>"  # the API's default prompt: the start of a new document


class Vocabulary(Protocol):
    """What prompts and answers need to know of a model.

    Attributes:
        path: The model's folder.
        tokenizer: Has transformers' `encode`; for conversations also `apply_chat_template`.
        token_bytes: The bytes of each token.
        context_length: Most tokens of a prompt and its answer together.
        vocab_size: Number of token ids.
        eos_token_ids: Tokens that end an answer.
        start_token_id: The token that stands for an empty prompt.
    """

    path: Path
    tokenizer: Any
    token_bytes: TokenBytes
    context_length: int
    vocab_size: int
    eos_token_ids: frozenset[int]
    start_token_id: int

    @property
    def chat_template(self) -> str:
        """The template that renders conversations; empty if there is none."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, Any]:
        """The texts of special tokens, by the names that templates use: "bos_token" and so on."""
        ...


@dataclass(slots=True)
class FileVocabulary:
    """The vocabulary of a model that is generated with elsewhere; see `Vocabulary`.

    `special_tokens` maps "bos_token", "eos_token" and "pad_token" to their text, or None.
    """

    path: Path
    tokenizer: FileTokenizer
    token_bytes: TokenBytes
    context_length: int
    vocab_size: int
    eos_token_ids: frozenset[int]
    start_token_id: int
    chat_template: str
    special_tokens: Mapping[str, Any]


class FileTokenizer:
    """A `tokenizer.json`, with those members of transformers' tokenizers that serving uses.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra

        self.backend_tokenizer: Tokenizer = Tokenizer.from_file(str(path))
        self.backend_tokenizer.no_padding()
        self.backend_tokenizer.no_truncation()

    @cached_property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Id → added token, with its `content` and whether it is `special`."""
        added: dict[int, Any] = self.backend_tokenizer.get_added_tokens_decoder()
        return added

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of the control tokens."""
        return [token_id for token_id, token in self.added_tokens_decoder.items() if token.special]

    def get_vocab(self) -> dict[str, int]:
        """Return the ids of all tokens by their names."""
        names: dict[str, int] = self.backend_tokenizer.get_vocab()
        return names

    def convert_ids_to_tokens(self, token: int) -> str | None:
        """Return a token's name in the vocabulary."""
        name: str | None = self.backend_tokenizer.id_to_token(token)
        return name

    def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str:
        """Return the text of some tokens."""
        return str(self.backend_tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens))

    def __call__(
        self, texts: list[str], *, add_special_tokens: bool, verbose: bool
    ) -> dict[str, list[list[int]]]:
        """Return the tokens of several texts, as `input_ids`."""
        del verbose
        encodings = self.backend_tokenizer.encode_batch(
            texts, add_special_tokens=add_special_tokens
        )
        return {"input_ids": [list(encoding.ids) for encoding in encodings]}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the tokens of a text."""
        encoding = self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return list(encoding.ids)

    def id_of(self, name: Any) -> int | None:
        """Return the id of a token named in `tokenizer_config.json`: as text, or as an object."""
        text = _token_text(name)
        token_id: int | None = self.backend_tokenizer.token_to_id(text) if text else None
        return token_id


def read_vocabulary(path: Path) -> FileVocabulary:
    """Read the vocabulary of a model from the files in its folder.

    Raises:
        GenerationError: A file is missing or broken.
    """
    try:
        return _read(path)
    except Exception as error:  # tokenizers raises plain Exception
        raise GenerationError(
            f"The tokenizer of the base model {path.name} cannot be read: {error}",
            kind=ErrorKind.INTERNAL,
            code="model_broken",
        ) from error


def _read(path: Path) -> FileVocabulary:
    config = _read_json(path / "config.json")
    config = config.get("text_config") or config
    tokenizer_config = _read_json(path / "tokenizer_config.json")
    tokenizer = FileTokenizer(path / "tokenizer.json")
    names = {name: tokenizer_config.get(name) for name in ("bos_token", "eos_token", "pad_token")}
    bos, eos, pad = map(tokenizer.id_of, names.values())
    eos_token_ids = {eos, tokenizer.id_of(END_OF_TEXT), *end_token_ids(path)}
    return FileVocabulary(
        path=path,
        tokenizer=tokenizer,
        token_bytes=TokenBytes(tokenizer),
        context_length=int(
            config.get("max_position_embeddings") or tokenizer_config["model_max_length"]
        ),
        vocab_size=int(config["vocab_size"]),
        eos_token_ids=frozenset(token for token in eos_token_ids if token is not None),
        start_token_id=next((token for token in (bos, eos, pad) if token is not None), 0),
        chat_template=_chat_template(path, tokenizer_config),
        special_tokens={name: _token_text(token) for name, token in names.items()},
    )


def _token_text(name: Any) -> str | None:
    """Return the text of a token named in `tokenizer_config.json`: as text, or as an object."""
    text = name.get("content") if isinstance(name, dict) else name
    return text if isinstance(text, str) else None


def _chat_template(path: Path, tokenizer_config: dict[str, Any]) -> str:
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = tokenizer_config.get("chat_template") or ""
    if isinstance(template, list):  # several, by name
        template = select_template({one["name"]: one["template"] for one in template})
    return str(template)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
