"""Writes the Modelfile with which Ollama serves a GGUF file.

Ollama's templates are Go templates (https://docs.ollama.com/modelfile), a model's own is written
in Jinja. The Go template is derived by rendering short conversations of marked messages, and
proven by rendering others; a Jinja template that cannot be written this way is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from tunesmith.datasets import PromptFormat

from .transfer_errors import ExportError

if TYPE_CHECKING:
    from .model_source import ModelSource

__all__ = ["modelfile"]

_Conversation: TypeAlias = list[tuple[str, str]]
_MOST_CONTEXT = 8192  # tokens; Ollama reserves memory for all of them
_SYSTEM, _USER, _ANSWER, _SECOND = "\u2983system", "\u2983user", "\u2983answer", "\u2983second"


@dataclass(frozen=True, slots=True)
class _Pieces:
    """What a chat template writes around the messages.

    Attributes:
        opening: Before a first message that is not the system's.
        before: Before a message, by role.
        after: After a message, by role.
        answer: Before the answer that is to be generated.
    """

    opening: str
    before: dict[str, str]
    after: dict[str, str]
    answer: str

    def render(self, conversation: _Conversation) -> str:
        """Return a conversation as the template writes it, up to the answer."""
        text = "" if conversation[0][0] == "system" else self.opening
        for role, content in conversation:
            text += f"{self.before[role]}{content}{self.after[role]}"
        return text + self.answer

    def go_template(self) -> str:
        """Return the Go template. Texts are string constants, which nothing trims."""
        first = 'and (eq $i 0) (ne $m.Role "system")'
        lines = [
            "{{- range $i, $m := .Messages }}",
            f"{{{{- if {first} }}}}{_go(self.opening)}{{{{- end }}}}",
        ]
        for number, role in enumerate(self.before):
            word = "if" if number == 0 else "else if"
            before, after = _go(self.before[role]), _go(self.after[role])
            lines.append(
                f'{{{{- {word} eq $m.Role "{role}" }}}}{before}{{{{ $m.Content }}}}{after}'
            )
        lines += ["{{- end }}", "{{- end }}", _go(self.answer)]
        return "\n".join(line for line in lines if line)


def modelfile(gguf_name: str, source: ModelSource, tokenizer: Any) -> str:
    """Return the Modelfile of an exported model.

    Args:
        gguf_name: Name of the GGUF file beside it.
        source: The model.
        tokenizer: Its tokenizer.

    Raises:
        ExportError: Its chat template cannot be written as a Go template.
    """
    lines = [f"FROM ./{gguf_name}"]
    stops: list[str]
    if source.is_chat and tokenizer.chat_template:
        pieces = _pieces(tokenizer)
        lines.append(f'TEMPLATE """{pieces.go_template()}"""')
        stops = [tokenizer.eos_token] if tokenizer.eos_token else []
    else:
        lines.append('TEMPLATE """{{ .Prompt }}"""')
        saved = source.prompt_format
        stops = [PromptFormat.from_dict(saved).stop] if saved else []
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    lines.append(f"PARAMETER num_ctx {_context(source)}")
    return "\n".join(lines) + "\n"


def _pieces(tokenizer: Any) -> _Pieces:
    first = tokenizer("")["input_ids"][:1]
    # llama.cpp puts before any text what the tokenizer puts there.
    added = tokenizer.bos_token if first and first[0] == tokenizer.bos_token_id else ""

    def render(conversation: _Conversation, *, answer: bool = False) -> str:
        messages = [{"role": role, "content": content} for role, content in conversation]
        text = str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer)
        )
        return text.removeprefix(added)

    try:
        pieces = _derive(render)
        conversations: list[_Conversation] = [
            [("user", "One"), ("assistant", "Two"), ("user", "Three\nlines")],
            [("system", "Be brief."), ("user", "One"), ("assistant", "Two"), ("user", "Three")],
        ]
        is_right = all(
            pieces.render(conversation) == render(conversation, answer=True)
            for conversation in conversations
        )
    except Exception as error:
        # Templates are programs of the model's authors and fail in their own ways.
        raise _not_expressible(str(error)) from error
    if not is_right:
        raise _not_expressible("it does more than to surround each message")
    return pieces


def _derive(render: Any) -> _Pieces:
    user = ("user", _USER)
    chat = render([user, ("assistant", _ANSWER), ("user", _SECOND)])
    before_first, rest = chat.split(_USER)
    between, rest = rest.split(_ANSWER)
    before_second, after_user = rest.split(_SECOND)
    after_answer = render([user, ("assistant", _ANSWER)]).split(_ANSWER)[1]
    before_user = before_second.removeprefix(after_answer)
    before_system, after_system = render([("system", _SYSTEM), user]).split(_USER)[0].split(_SYSTEM)
    question = render([user])
    return _Pieces(
        opening=before_first.removesuffix(before_user),
        before={
            "system": before_system,
            "user": before_user,
            "assistant": between.removeprefix(after_user),
        },
        after={
            "system": after_system.removesuffix(before_user),
            "user": after_user,
            "assistant": after_answer,
        },
        answer=render([user], answer=True).removeprefix(question),
    )


def _go(text: str) -> str:
    """Return an action that prints `text`; "" for none."""
    return f"{{{{- {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def _context(source: ModelSource) -> int:
    config = json.loads((source.base.path / "config.json").read_text(encoding="utf-8"))
    known = config.get("max_position_embeddings")
    return min(int(known), _MOST_CONTEXT) if known else _MOST_CONTEXT


def _not_expressible(reason: str) -> ExportError:
    return ExportError(
        f"The model's chat template cannot be written as one of Ollama's: {reason}. Export it as "
        "GGUF (--to gguf): llama.cpp reads the model's own template from the file."
    )
