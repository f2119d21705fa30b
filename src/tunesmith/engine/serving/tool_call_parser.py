"""Reads tool calls in the forms that model families write them in.

The form is told by what comes, not by the model: whoever fine-tuned a model may have taught it
another one than its chat template shows. A call begins with its name, and its arguments are passed
on as they come; what is no call, or calls a tool that the request does not have, is left to the
caller as text.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .call_arguments import gemma_key, gemma_value, python_arguments
from .growing_text import GrowingText, Steps, UnexpectedTextError
from .parameter_types import ParameterTypes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["CallDelta", "ToolCallParser"]

_NAME = re.compile(r"[\w.:-]*", re.ASCII)
# The keys of a call, and what they are here.
_KEYS = {
    "name": "name",
    "tool_name": "name",
    "arguments": "arguments",
    "parameters": "arguments",
    "args": "arguments",
    "id": "id",
    "tool_call_id": "id",
    "type": "type",
    "function": "function",
}
_ALPHABET = string.ascii_letters + string.digits
_SEPARATOR = "<｜tool▁sep｜>"
# What stands in a section between calls and around them.
_BETWEEN = (
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<|tool_call_begin|>",
    "<|tool_call_end|>",
    "[TOOL_CALLS]",
)


@dataclass(frozen=True, slots=True)
class CallDelta:
    """What is new of a call.

    Attributes:
        index: The call's number in the answer.
        arguments: The next piece of its arguments, which are JSON text.
        id: Its id, with its first piece.
        name: Its tool's name, with its first piece.
    """

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(slots=True)
class ToolCallParser:
    """Reads calls from the text of an answer.

    Args:
        text: The text.
        functions: The schema of the arguments of each tool, by its name.
        emit: Gets what is new of the calls.
        id_length: Letters and digits of an id; None for `call_` and more of them.

    Attributes:
        begun: How many calls have begun.
        complete: How many are complete.
    """

    text: GrowingText
    functions: Mapping[str, Mapping[str, Any]]
    emit: Callable[[CallDelta], None]
    id_length: int | None = None
    begun: int = 0
    complete: int = 0
    _types: ParameterTypes = field(default_factory=lambda: ParameterTypes({}))

    def read_section(self, end: str) -> Steps[None]:
        """Read the calls of a section, whose start has been read, and its end.

        Args:
            end: What closes the section; empty where nothing does.

        Raises:
            UnexpectedTextError: Something else comes.
        """
        text, before = self.text, self.begun
        in_list = marked = False
        while True:
            behind = text.position
            yield from text.skip(" \t\r\n,;")
            if end and (yield from text.accept(end)):
                break
            if (yield from text.accept(*_BETWEEN)):
                marked = True
                continue
            if in_list and (yield from text.accept("]")):
                in_list = False
                if not end:
                    break
                continue
            if not in_list and (yield from text.accept("[")):
                in_list = True
                continue
            if not (yield from text.peek(1)):
                break
            is_over = not end and not in_list and not marked and self.begun > before
            if is_over and not (yield from text.sees("{")):
                text.position = behind
                break
            yield from self._call(end)
            marked = False
        if self.begun == before:
            raise UnexpectedTextError

    def read_bare(self) -> Steps[None]:
        """Read calls as JSON objects, or a list of them, that stand for the whole answer.

        Raises:
            UnexpectedTextError: Something else comes.
        """
        text = self.text
        in_list = (yield from text.accept("[")) is not None
        while True:
            yield from text.skip()
            yield from text.expect("{")
            yield from self._json_call(bare=True)
            yield from text.skip(" \t\r\n;," if in_list else " \t\r\n;")
            if in_list:
                if (yield from text.accept("]")):
                    return
            elif not (yield from text.sees("{")):
                return
            if not (yield from text.peek(1)):
                return

    def read_python(self) -> Steps[None]:
        """Read calls in Python's form, in a list, that stand for the whole answer.

        Raises:
            UnexpectedTextError: Something else comes.
        """
        yield from self.text.expect("[")
        while True:
            yield from self.text.skip(" \t\r\n,")
            if (yield from self.text.accept("]")) or not (yield from self.text.peek(1)):
                return
            name = yield from self.text.match(_NAME)
            yield from self.text.expect("(")
            yield from self._python_call(name)

    def begin(self, name: str, identity: Any = None) -> None:
        """Begin a call.

        Raises:
            UnexpectedTextError: There is no tool of this name.
        """
        if name not in self.functions:
            raise UnexpectedTextError
        self._types = ParameterTypes(self.functions[name])
        usable = isinstance(identity, str) and (
            self.id_length is None or len(identity) == self.id_length
        )
        self.emit(CallDelta(self.begun, "", identity if usable and identity else self._id(), name))
        self.begun += 1

    def add(self, arguments: str) -> None:
        """Add a piece of the arguments of the latest call."""
        if arguments:
            self.emit(CallDelta(self.begun - 1, arguments))

    def end(self) -> None:
        """End the latest call."""
        self.complete = self.begun

    def _id(self) -> str:
        length = self.id_length or 24
        letters = "".join(secrets.choice(_ALPHABET) for _ in range(length))
        return letters if self.id_length else f"call_{letters}"

    def _call(self, end: str) -> Steps[None]:
        text = self.text
        if (yield from text.accept("{")):
            yield from self._json_call()
        elif (yield from text.accept("<function=")):
            yield from self._tagged_call((yield from text.text_until(">")), "</function>")
        elif (yield from text.accept('<invoke name="', '<｜DSML｜invoke name="')):
            name = yield from text.text_until('">')
            yield from self._tagged_call(name, "</invoke>")
        elif (yield from text.accept("call:")):
            yield from self._gemma_call()
        else:
            yield from self._named_call(end)

    # A JSON object with a name and arguments

    def _json_call(self, *, bare: bool = False) -> Steps[None]:
        """Read the rest of a JSON object that is a call."""
        text, begun = self.text, self.begun
        known = dict[str, Any]()
        while True:
            yield from text.skip(" \t\r\n,")
            if (yield from text.accept("}")):
                break
            key = yield from self._json_key()
            if key == "function" and (yield from text.accept("{")):
                yield from self._json_call(bare=bare)
            elif key == "arguments" and "name" in known and (yield from text.sees("{")):
                self.begin(known["name"], known.get("id"))
                if not (yield from text.json_value(self.add)):
                    return
                self.end()
            elif bare and key not in _KEYS.values() and self.begun == begun:
                raise UnexpectedTextError
            else:
                known[key] = yield from text.json()
                self._check_name(known)
        if self.begun == begun:
            self._whole_call(known, bare=bare)

    def _json_key(self) -> Steps[str]:
        """Read a key and its colon; return it by the name that it has here."""
        text = self.text
        if (yield from text.peek(1)) != '"':
            raise UnexpectedTextError
        key = yield from text.json()
        yield from text.skip()
        yield from text.expect(":")
        yield from text.skip()
        found: str = _KEYS.get(key) or key
        if found == "function" and (yield from text.sees('"')):
            return "name"
        return found

    def _check_name(self, known: Mapping[str, Any]) -> None:
        name = known.get("name")
        if "name" in known and not (isinstance(name, str) and name in self.functions):
            raise UnexpectedTextError

    def _whole_call(self, known: Mapping[str, Any], *, bare: bool) -> None:
        """Pass on a call all of which was read before it was known to be one."""
        arguments = known.get("arguments")
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments, ensure_ascii=False)
        is_call = isinstance(arguments, str) or (arguments is None and not bare)
        if "name" not in known or not is_call:
            raise UnexpectedTextError
        self.begin(known["name"], known.get("id"))
        self.add(arguments or "{}")
        self.end()

    # A name, then arguments

    def _named_call(self, end: str) -> Steps[None]:
        text = self.text
        name = yield from text.match(_NAME)
        identity = None
        if not name:
            raise UnexpectedTextError
        known = self._known(name)
        if known is not None and known != name:
            identity = name  # as Kimi's templates number the calls
        sign = yield from text.accept(
            "[CALL_ID]", "[ARGS]", "<|tool_call_argument_begin|>", _SEPARATOR, "("
        )
        if sign == "(":
            yield from self._python_call(name)
            return
        if sign == "[CALL_ID]":
            identity = yield from text.text_until("[ARGS]")
        elif sign == _SEPARATOR and not (yield from text.sees("{")):
            known = yield from text.text_until("\n")
            yield from text.accept("```json")
        if known is None or known not in self.functions:
            raise UnexpectedTextError
        yield from text.skip()
        if sign is None and not (yield from text.sees("{")):
            yield from self._paired_call(known, end)
            return
        if not (yield from text.sees("{")):
            raise UnexpectedTextError
        self.begin(known, identity)
        if (yield from text.json_value(self.add)):
            self.end()
            yield from text.accept("\n```")

    def _known(self, name: str) -> str | None:
        """Return the tool that a name stands for, which may have a prefix and a number."""
        for candidate in (name, re.sub(r":\d+$", "", name.removeprefix("functions."))):
            if candidate in self.functions:
                return candidate
        return None

    # Tags

    def _tagged_call(self, name: str, end: str) -> Steps[None]:
        """Read parameters between tags, up to the tag that ends the call."""
        text = self.text
        self.begin(name.strip())
        self.add("{")
        ends = (end, end.replace("</", "</｜DSML｜"))
        starts = ("<parameter=", '<parameter name="', '<｜DSML｜parameter name="')
        separator = ""
        while True:
            yield from text.skip()
            if (yield from text.accept(*ends)):
                break
            tag = yield from text.accept(*starts)
            if tag is None:
                if not (yield from text.peek(1)):
                    return
                self.add("}")
                self.end()
                raise UnexpectedTextError
            pieces = list[str]()
            found = yield from text.until(">", emit=pieces.append)
            if found is None:
                return
            key = "".join(pieces).partition('"')[0] if tag.endswith('"') else "".join(pieces)
            self.add(f"{separator}{json.dumps(key, ensure_ascii=False)}: ")
            separator = ", "
            if not (yield from self._tagged_value(key, ("</parameter>", "</｜DSML｜parameter>"))):
                return
        self.add("}")
        self.end()

    def _paired_call(self, name: str, end: str) -> Steps[None]:
        """Read keys and values between tags of their own."""
        text = self.text
        if not (yield from text.sees("<arg_key>")) and not (end and (yield from text.sees(end))):
            raise UnexpectedTextError
        self.begin(name)
        self.add("{")
        separator = ""
        while (yield from text.accept("<arg_key>")):
            pieces = list[str]()
            if (yield from text.until("</arg_key>", emit=pieces.append)) is None:
                return
            yield from text.skip()
            if not (yield from text.accept("<arg_value>")):
                return
            key = "".join(pieces).strip()
            self.add(f"{separator}{json.dumps(key, ensure_ascii=False)}: ")
            separator = ", "
            if not (yield from self._tagged_value(key, ("</arg_value>",))):
                return
            yield from text.skip()
        self.add("}")
        self.end()

    def _tagged_value(self, key: str, ends: Sequence[str]) -> Steps[bool]:
        """Read a value up to its closing tag; return whether that came.

        One line break after the opening tag and one before the closing tag belong to the tags.
        Text is passed on as it comes, all else once it is complete.
        """
        text = self.text
        yield from text.accept("\n")
        if not self._types.is_text(key):
            pieces = list[str]()
            found = yield from text.until(*ends, emit=pieces.append)
            value = "".join(pieces).removesuffix("\n")
            self.add(json.dumps(self._types.value(key, value), ensure_ascii=False))
            return found is not None
        self.add('"')
        held = ""

        def pass_on(piece: str) -> None:
            nonlocal held
            piece = held + piece
            held = "\n" if piece.endswith("\n") else ""
            self.add(json.dumps(piece.removesuffix("\n"), ensure_ascii=False)[1:-1])

        found = yield from text.until(*ends, emit=pass_on)
        if found is not None:
            self.add('"')
        return found is not None

    # Gemma's form

    def _gemma_call(self) -> Steps[None]:
        text = self.text
        name = yield from text.match(_NAME)
        yield from text.expect("{")
        self.begin(name)
        self.add("{")
        separator = ""
        while True:
            yield from text.skip(" \t\r\n,")
            if (yield from text.accept("}")):
                break
            if not (yield from text.peek(1)):
                return
            key = yield from gemma_key(text)
            value = yield from gemma_value(text)
            if self._types.is_text(key) and not isinstance(value, str):
                value = json.dumps(value)
            written = json.dumps(value, ensure_ascii=False)
            self.add(f"{separator}{json.dumps(key, ensure_ascii=False)}: {written}")
            separator = ", "
        self.add("}")
        self.end()

    # Python's form

    def _python_call(self, name: str) -> Steps[None]:
        """Read the rest of a call in Python's form, whose name and bracket have been read."""
        if name not in self.functions:
            raise UnexpectedTextError
        arguments = yield from python_arguments(self.text)
        self.begin(name)
        self.add(json.dumps(arguments, ensure_ascii=False))
        self.end()
