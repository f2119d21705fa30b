"""A model's chat template: conversations as the text that the model reads, and its replies.

Serving renders the prompts of requests with it and training the rows, so that a model learns to
answer exactly what it is asked. What a template cannot say in its own words is written as text
where that is possible (tools), and refused where it is not.

Templates are programs of the models' authors, and the text of a conversation is not the
beginning of the text of the longer one for most of them: they drop earlier thoughts, move the
system message, or end the last turn differently. So a reply is always rendered as the last
message, after the prompt that is served for it.

Rendering is that of transformers, without a model or torch. Knows no tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

from .template_abilities import (
    CALL,
    MARK,
    QUESTION,
    TOOL,
    TemplateError,
    find_abilities,
    in_its_form,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from .template_abilities import Abilities

__all__ = ["ChatTemplate", "TemplateError", "Turn", "end_token_ids", "select_template"]

THINKING: dict[str, Any] = {"enable_thinking": True, "thinking": True}
"""Options that make templates of models that may think ask for it."""

_THINK_START, _THINK_END = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Turn:
    """A reply and the prompt that it is served for.

    Attributes:
        prompt: The conversation before it, as text that ends where the reply begins.
        reply: What the model has to write, up to the token that ends its turn.
        omitted_reasoning: Whether the reply has thoughts for which the template has no place.
    """

    prompt: str
    reply: str
    omitted_reasoning: bool = False


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template with the special tokens of its model.

    Args:
        source: The template; "" for a model that has none.
        names: Special tokens by the names that templates use: "bos_token", "eos_token" and so on.
        special: All special tokens, as text.
        ends: Those that end an answer.
    """

    source: str
    names: tuple[tuple[str, str], ...] = ()
    special: frozenset[str] = frozenset()
    ends: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, tokenizer: Any, names: Mapping[str, Any], source: Any, end_ids: Iterable[int] = ()
    ) -> ChatTemplate:
        """Return the template of a tokenizer.

        Args:
            tokenizer: One of transformers, or what has its `added_tokens_decoder`.
            names: Its `special_tokens_map`.
            source: The template, or several by name.
            end_ids: Ids of tokens that end an answer, besides the tokenizer's `eos_token`.
        """
        added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
        special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        texts = {name: str(text) for name, text in names.items() if isinstance(text, str)}
        ends = {added[number] for number in end_ids if number in added}
        ends |= {texts["eos_token"]} if texts.get("eos_token") else set()
        return cls(
            select_template(source) if isinstance(source, dict) else str(source or ""),
            tuple(sorted(texts.items())),
            frozenset(special | ends),
            frozenset(ends),
        )

    def prompt(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        **options: Any,
    ) -> str:
        """Return a conversation as text that ends where the model's reply begins.

        Args:
            messages: Messages as `tunesmith.datasets.chat_messages` makes them.
            tools: Definitions of the tools that may be called, or None.
            options: Variables for the template, such as `enable_thinking`.

        Raises:
            TemplateError: The template rejects the conversation.
        """
        return self._render(messages, tools, is_prompt=True, options=options)

    def turn(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None
    ) -> Turn:
        """Return the last message as a reply to those before it; the arguments are `prompt`'s.

        A reply with thoughts is one to a request for them, where the template tells such
        requests from others.

        Raises:
            TemplateError: The template cannot write the conversation, or not the whole reply.
        """
        message = messages[-1]
        if message.get("reasoning_content"):
            return self._with_reasoning([*messages], tools)
        apart = _with_thoughts_apart(message)
        if apart is None:
            return self._turn(messages, tools, {})
        try:
            turn = self._with_reasoning([*messages[:-1], apart], tools)
        except TemplateError:
            turn = None
        # A template that has no place for thoughts leaves them where they are, in the text.
        return self._turn(messages, tools, {}) if turn is None or turn.omitted_reasoning else turn

    def _with_reasoning(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None
    ) -> Turn:
        """Return the last message as a reply with thoughts, asked for in the way that has them."""
        reasoning = messages[-1]["reasoning_content"]
        found: Turn | None = None
        refusal = TemplateError("")
        for options in (THINKING, {}):
            try:
                turn = self._turn(messages, tools, options)
            except TemplateError as error:
                refusal = error
                continue
            if _is_in(reasoning, turn.reply):
                found = turn
            elif found is None:
                found = replace(turn, omitted_reasoning=True)
        if found is None:
            raise refusal
        return found

    def turn_ends(self) -> frozenset[str]:
        """Return the tokens with which replies end, as text: an answer's and a call's."""
        return _turn_ends(self)

    def _turn(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None,
        options: dict[str, Any],
    ) -> Turn:
        prompt = self.prompt(messages[:-1], tools, **options)
        self._check_prompt(messages[:-1], tools, prompt)
        whole = self._render(messages, tools, is_prompt=False, options=options)
        reply = _continuation(prompt, whole, messages[-1])
        if reply is None:
            reply = self._reply_alone(messages[-1], tools, whole, options)
        reply = self._up_to_its_end(reply)
        self._check_reply(messages[-1], reply)
        return Turn(prompt, reply)

    def _reply_alone(
        self,
        message: dict[str, Any],
        tools: Sequence[dict[str, Any]] | None,
        whole: str,
        options: dict[str, Any],
    ) -> str:
        """Return the reply as it is written after the shortest question.

        For templates that write the messages before a reply differently once it is there.
        """
        question = {"role": "user", "content": "?"}
        prompt = self._render([question], tools, is_prompt=True, options=options)
        short = self._render([question, message], tools, is_prompt=False, options=options)
        reply = _continuation(prompt, short, message)
        written = reply
        if reply is not None and not whole.endswith(reply):
            written = reply.rpartition(_THINK_END)[2].lstrip("\n")
        if reply is None or written is None or not whole.endswith(written):
            raise TemplateError(
                "it writes the reply in another way than the request for it announces"
            )
        return reply

    def _up_to_its_end(self, reply: str) -> str:
        """Return a reply up to the token that ends it, which is added where there is none."""
        rest, tail = reply, []
        while rest:
            stripped = rest.rstrip()
            token = next((one for one in self.special if stripped.endswith(one)), None)
            if not token:
                break
            rest = stripped.removesuffix(token)
            tail.append((token, len(stripped)))
        ends = [end for token, end in tail if token in self.ends] or [end for _, end in tail]
        if ends:
            return reply[: ends[-1]]
        return reply.rstrip("\n") + dict(self.names).get("eos_token", "")

    def _check_prompt(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None,
        prompt: str,
    ) -> None:
        """Raise TemplateError if a prompt lacks a message; a model's own may be shortened."""
        for index, message in enumerate(messages):
            if message["role"] == "assistant" or _is_in(message["content"], prompt):
                continue
            marked = [*messages[:index], {**message, "content": MARK}, *messages[index + 1 :]]
            if MARK not in self.prompt(marked, tools):
                raise TemplateError(
                    f"it has no place for messages[{index}], which is from the {message['role']}"
                )

    def _check_reply(self, message: dict[str, Any], reply: str) -> None:
        """Raise TemplateError if a reply lacks text or a call of its message."""
        if not _is_in(message["content"], reply):
            raise TemplateError("it leaves out text of the reply")
        place = 0
        for call in message.get("tool_calls", ()):
            function = call["function"]
            place = reply.find(function["name"], place)
            if place < 0:
                raise TemplateError(
                    f"it leaves out the call of {function['name']!r}: it may have no place for "
                    "several calls in one message, or for text beside a call"
                )
            place += len(function["name"])
            rest = reply[place:]
            for name, value in function["arguments"].items():
                if name not in rest or (isinstance(value, str) and not _is_in(value, rest)):
                    raise TemplateError(
                        f"it leaves out the argument {name!r} of the call of {function['name']!r}"
                    )

    def _render(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None,
        *,
        is_prompt: bool,
        options: Mapping[str, Any],
    ) -> str:
        written, declared = in_its_form(_abilities(self), messages, tools)
        return self.render_as_is(written, declared, is_prompt=is_prompt, options=options)

    def render_as_is(
        self,
        messages: Sequence[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        *,
        is_prompt: bool,
        options: Mapping[str, Any],
    ) -> str:
        """Return what the template makes of messages and tools in the form that it takes.

        Raises:
            TemplateError: It rejects them.
        """
        from transformers.utils.chat_template_utils import (  # noqa: PLC0415 - slow to import
            render_jinja_template,
        )

        if not self.source:
            raise TemplateError("there is none")
        variables = {**dict(self.names), **options}
        if tools and "xml_tools" in self.source:  # SmolLM3's name for them
            variables["xml_tools"] = tools
        try:
            rendered: Any = render_jinja_template(
                conversations=[list(messages)],
                tools=cast("Any", tools),
                chat_template=self.source,
                add_generation_prompt=is_prompt,
                **variables,
            )
        except Exception as error:
            # Templates are programs of the models' authors and fail in their own ways.
            raise TemplateError(str(error) or type(error).__name__) from error
        return str(rendered[0][0])


def select_template(templates: dict[str, str]) -> str:
    """Return the template to use of several named ones; that for tools takes precedence."""
    return templates.get("tool_use") or templates.get("default") or ""


def end_token_ids(folder: Path) -> frozenset[int]:
    """Return the ids that end an answer, as the files in a model's folder name them."""
    found: set[Any] = set()
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            for settings in (content, content.get("text_config") or {}):
                ids = settings.get("eos_token_id")
                found.update(ids if isinstance(ids, list) else [ids])
    return frozenset(number for number in found if isinstance(number, int))


def _continuation(prompt: str, whole: str, message: dict[str, Any]) -> str | None:
    """Return what a rendered conversation has beyond the prompt for its reply, or None.

    A prompt may open the thoughts that the reply is then written without, or end with white
    space that the reply is written without.
    """
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    stripped = prompt.rstrip()
    if stripped.endswith(_THINK_START):
        opened = stripped.removesuffix(_THINK_START)
        if not whole.startswith(opened):
            return None
        rest = whole[len(opened) :]
        if rest.lstrip().startswith(_THINK_START):
            return rest.lstrip().removeprefix(_THINK_START).lstrip("\n")
        thoughts = str(message.get("reasoning_content", "")).strip("\n")
        return f"{thoughts}\n{_THINK_END}\n\n" + rest.lstrip("\n")
    if whole.startswith(stripped):
        return whole[len(stripped) :].lstrip()
    return None


def _with_thoughts_apart(message: dict[str, Any]) -> dict[str, Any] | None:
    """Return a message with the thoughts that its text begins with apart; None without any."""
    before, mark, content = message["content"].partition(_THINK_END)
    if not mark or not before.lstrip().startswith(_THINK_START):
        return None
    thoughts = before.lstrip().removeprefix(_THINK_START).strip("\n")
    return {**message, "content": content.lstrip("\n"), "reasoning_content": thoughts}


def _is_in(content: str, text: str) -> bool:
    """Return whether a text holds a content: as it is, trimmed, or within JSON."""
    stripped = content.strip()
    return stripped in text or any(
        json.dumps(stripped, ensure_ascii=escaped)[1:-1] in text for escaped in (False, True)
    )


@lru_cache(maxsize=64)
def _abilities(template: ChatTemplate) -> Abilities:
    render = partial(template.render_as_is, is_prompt=True, options={})
    return find_abilities(render)


@lru_cache(maxsize=64)
def _turn_ends(template: ChatTemplate) -> frozenset[str]:
    replies = [{"role": "assistant", "content": MARK}, CALL]
    found: set[str] = set()
    for reply in replies:
        try:
            text = template.turn([QUESTION, reply], [TOOL] if "tool_calls" in reply else None)
        except TemplateError:
            continue
        found |= {token for token in template.special if text.reply.endswith(token)}
    return frozenset(found)
