"""Tools that are described by a pydantic model, and the arguments of calls read as the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tunesmith._lazy import set_public_module
from tunesmith.core.options import is_omitted
from tunesmith.errors import APIResponseValidationError

from .answer_schemas import answer_type, type_name

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["parse_arguments", "pydantic_function_tool", "tool_list"]


class _ModelFunction(dict[str, Any]):
    """The description of a function, which is sent, and the model of its parameters."""

    def __init__(self, description: Mapping[str, Any], model: type[BaseModel]) -> None:
        super().__init__(description)
        self.model = model


def pydantic_function_tool(
    model: type[BaseModel], *, name: str | None = None, description: str | None = None
) -> dict[str, Any]:
    """Return a tool whose parameters are the fields of a model.

    After `parse`, `tool_call.function.parsed_arguments` of its calls is an instance of the model.

    Args:
        model: The model.
        name: The function's name, by default the name of the model.
        description: What the function does, by default the docstring of the model.
    """
    answer = answer_type(model)
    function = {"name": name or answer.name, "strict": answer.strict, "parameters": answer.schema}
    about = model.__doc__ if description is None else description
    if about is not None:
        function["description"] = about
    return {"type": "function", "function": _ModelFunction(function, model)}


def tool_list(tools: Any) -> list[Any]:
    """Return the tools of a request as a list, so that they can be read again."""
    return [] if tools is None or is_omitted(tools) else list(tools)


def parse_arguments(tools: Iterable[Any], name: str, text: str) -> object | None:
    """Return the arguments of a call: as the tool's model, as JSON data if it is strict, or None.

    Args:
        tools: The tools of the request; those of openai's `pydantic_function_tool` have models too.
        name: The function's name.
        text: The arguments as JSON text.

    Raises:
        APIResponseValidationError: They are not what the tool's schema says.
    """
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if function is None or function.get("name") != name:
            continue
        model = getattr(function, "model", None)
        if model is not None:
            return _as_model(name, text, model)
        return _as_json(name, text) if function.get("strict") else None
    return None


def _as_model(name: str, text: str, model: Any) -> object:
    from pydantic import ValidationError

    from tunesmith.core.decode import describe_mismatch

    try:
        value: object = answer_type(model).adapter.validate_json(text)
    except ValidationError as error:
        reason = describe_mismatch(error)
    else:
        return value
    raise APIResponseValidationError(
        f"The arguments of the call of {name} are not a {type_name(model)}: {reason}. "
        f"They begin: {text[:200]!r}",
        body=text,
    )


def _as_json(name: str, text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError as error:
        reason = str(error)
    else:
        return value
    raise APIResponseValidationError(
        f"The arguments of the call of {name} are no JSON: {reason}. They begin: {text[:200]!r}",
        body=text,
    )


set_public_module(globals())
