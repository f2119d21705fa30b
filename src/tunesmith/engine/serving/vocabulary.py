"""What is known here of a base whose weights another server holds: its vocabulary.

Read from the model's folder with the tokenizers library alone, so that a server which
only hands requests on loads neither torch nor transformers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .detokenizer import TokenBytes
from .generation_errors import GenerationError
from .input_processor import END_OF_TEXT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RemoteBase", "read_remote_base"]


@dataclass(slots=True)
class RemoteBase:
    """A base that is served elsewhere; see `prompts.Vocabulary` for the attributes."""

    path: Path
    tokenizer: FileTokenizer
    token_bytes: TokenBytes
    context: int
    vocabulary: int
    end_tokens: frozenset[int]
    start_token: int
    chat_template: str


class FileTokenizer:
    """A `tokenizer.json`, with those members of transformers' tokenizers that serving uses.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra

        self.backend_tokenizer: Tokenizer = Tokenizer.from_file(str(path))

    @cached_property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Id → added token, with its `content` and whether it is `special`."""
        added: dict[int, Any] = self.backend_tokenizer.get_added_tokens_decoder()
        return added

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of the control tokens."""
        return [number for number, token in self.added_tokens_decoder.items() if token.special]

    def convert_ids_to_tokens(self, token: int) -> str | None:
        """Return a token's name in the vocabulary."""
        name: str | None = self.backend_tokenizer.id_to_token(token)
        return name

    def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str:
        """Return the text of some tokens."""
        return str(self.backend_tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens))

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the tokens of a text."""
        encoding = self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return list(encoding.ids)

    def id_of(self, name: Any) -> int | None:
        """Return the id of a token named in `tokenizer_config.json`: as text, or as an object."""
        text = name.get("content") if isinstance(name, dict) else name
        number: int | None = self.backend_tokenizer.token_to_id(text) if text else None
        return number


def read_remote_base(path: Path) -> RemoteBase:
    """Return what the files in a base model's folder say of its vocabulary.

    Raises:
        GenerationError: A file is missing or broken.
    """
    try:
        return _read(path)
    except Exception as error:  # tokenizers raises plain Exception
        raise GenerationError(
            f"The tokenizer of the base model {path.name} cannot be read: {error}",
            status=500,
            code="model_broken",
        ) from error


def _read(path: Path) -> RemoteBase:
    config = _json(path / "config.json")
    config = config.get("text_config") or config
    named = _json(path / "tokenizer_config.json")
    tokenizer = FileTokenizer(path / "tokenizer.json")
    bos, eos, pad = (tokenizer.id_of(named.get(f"{kind}_token")) for kind in ("bos", "eos", "pad"))
    ends = {eos, tokenizer.id_of(END_OF_TEXT)}
    for source in (config, _json(path / "generation_config.json")):
        found = source.get("eos_token_id")
        ends.update(found if isinstance(found, list) else [found])
    return RemoteBase(
        path=path,
        tokenizer=tokenizer,
        token_bytes=TokenBytes(tokenizer),
        context=int(config["max_position_embeddings"]),
        vocabulary=int(config["vocab_size"]),
        end_tokens=frozenset(token for token in ends if token is not None),
        start_token=next((token for token in (bos, eos, pad) if token is not None), 0),
        chat_template=_chat_template(path, named),
    )


def _chat_template(path: Path, named: dict[str, Any]) -> str:
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = named.get("chat_template") or ""
    if isinstance(template, list):  # several, by name
        by_name = {one["name"]: one["template"] for one in template}
        template = by_name.get("tool_use") or by_name.get("default") or ""
    return str(template)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
