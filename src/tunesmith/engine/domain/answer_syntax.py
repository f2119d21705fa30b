"""How model families mark what they think and the tools they call, as data.

The syntax of a model is found in its chat template, or named in `models.toml`. A call that is
forced is written as the tables here say. Reading is more tolerant, see `tool_call_parser`.
Knows no names of models, no tokenizer and no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .tool_messages import CALL_END, CALL_START

__all__ = [
    "CALL_NAMES",
    "CALL_SYNTAXES",
    "HARMONY",
    "MARKS",
    "THINKING_NAMES",
    "THINKING_SYNTAXES",
    "AnswerSyntax",
    "ArgumentForm",
    "CallSyntax",
    "ThinkingSyntax",
    "find_syntax",
]

ArgumentForm: TypeAlias = Literal[
    "json", "parameters", "named_parameters", "pairs", "gemma", "python"
]
"""How arguments are written: a JSON object, `<parameter=NAME>`, `<parameter name="NAME">`,
`<arg_key>` with `<arg_value>`, Gemma's unquoted keys, or Python's keyword arguments."""


@dataclass(frozen=True, slots=True)
class ThinkingSyntax:
    """What stands around the thoughts before an answer, and around the answer after them.

    Attributes:
        begin: Before the thoughts. A template may write it itself at the end of a prompt.
        end: After them.
        answer_begin: Before the answer that follows; empty for nothing.
        answer_end: After it.
    """

    begin: str
    end: str
    answer_begin: str = ""
    answer_end: str = ""


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """How calls are written: `begin`, calls with `separator` between them, `end`.

    A call is `before_name`, the name, `after_name`, the arguments, `after_arguments`.

    Attributes:
        arguments: The form of the arguments.
        between: What separates sections, each with one call; None where all calls stand in one
            section, and empty text for a syntax with one call in an answer.
        separator: What separates the calls of a section.
        quote: What stands around text in Gemma's form.
        id_length: Letters and digits of a call's id, which some templates prescribe; None for
            ids of any form.
    """

    begin: str
    before_name: str
    after_name: str
    after_arguments: str
    end: str
    arguments: ArgumentForm = "json"
    between: str | None = None
    separator: str = ""
    quote: str = ""
    id_length: int | None = None


@dataclass(frozen=True, slots=True)
class AnswerSyntax:
    """The syntax of a model's answers.

    Attributes:
        thinking: That of thoughts; None if the model marks none.
        calls: The name of that of calls, in `CALL_SYNTAXES`, or `HARMONY`.
    """

    thinking: ThinkingSyntax | None
    calls: str


HARMONY = "harmony"
"""Messages in channels: thoughts, calls and the answer are all told apart by a header."""

THINKING_SYNTAXES: dict[str, ThinkingSyntax] = {
    "think": ThinkingSyntax("<think>", "</think>"),
    "think_response": ThinkingSyntax("<think>", "</think>", "<response>", "</response>"),
    "think_answer": ThinkingSyntax("<think>", "</think>", "<answer>", "</answer>"),
    "mistral": ThinkingSyntax("[THINK]", "[/THINK]"),
    "seed": ThinkingSyntax("<seed:think>", "</seed:think>"),
    "gemma": ThinkingSyntax("<|channel>thought\n", "<channel|>"),
    "cohere": ThinkingSyntax(
        "<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"
    ),
    "thought": ThinkingSyntax("<thought>", "</thought>"),
    "kimi": ThinkingSyntax("◁think▷", "◁/think▷"),
    "granite": ThinkingSyntax("Here is my thought process:", "Here is my response:"),
}

_NAME = '{"name": "'
_ARGUMENTS = '", "arguments": '

CALL_SYNTAXES: dict[str, CallSyntax] = {
    "hermes": CallSyntax(f"{CALL_START}\n", _NAME, _ARGUMENTS, "}", f"\n{CALL_END}", between="\n"),
    "llama": CallSyntax("", _NAME, '", "parameters": ', "}", "", between=""),
    "mistral": CallSyntax(
        "[TOOL_CALLS] [", _NAME, _ARGUMENTS, "}", "]", separator=", ", id_length=9
    ),
    "mistral_args": CallSyntax("[TOOL_CALLS]", "", "[ARGS]", "", "", between="", id_length=9),
    "qwen_xml": CallSyntax(
        f"{CALL_START}\n",
        "<function=",
        ">\n",
        "</function>",
        f"\n{CALL_END}",
        arguments="parameters",
        between="\n",
    ),
    "seed": CallSyntax(
        "<seed:tool_call>\n",
        "<function=",
        ">\n",
        "</function>",
        "\n</seed:tool_call>",
        arguments="parameters",
        between="\n",
    ),
    "minimax": CallSyntax(
        "<minimax:tool_call>\n",
        '<invoke name="',
        '">\n',
        "</invoke>",
        "\n</minimax:tool_call>",
        arguments="named_parameters",
        separator="\n",
    ),
    "glm": CallSyntax(CALL_START, "", "\n", "", CALL_END, arguments="pairs", between="\n"),
    "granite": CallSyntax("<|tool_call|>[", _NAME, _ARGUMENTS, "}", "]", separator=", "),
    "phi": CallSyntax("<|tool_call|>[", _NAME, _ARGUMENTS, "}", "]<|/tool_call|>", separator=", "),
    "nemotron": CallSyntax("<TOOLCALL>[", _NAME, _ARGUMENTS, "}", "]</TOOLCALL>", separator=", "),
    "json_list": CallSyntax(
        "<tool_calls>[", _NAME, _ARGUMENTS, "}", "]</tool_calls>", separator=", "
    ),
    "cohere": CallSyntax(
        "<|START_ACTION|>[\n    ",
        '{"tool_call_id": "0", "tool_name": "',
        '", "parameters": ',
        "}",
        "\n]<|END_ACTION|>",
        separator=",\n    ",
    ),
    "deepseek": CallSyntax(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        "\n```json\n",
        "\n```<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
        separator="\n",
    ),
    "deepseek_v31": CallSyntax(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    ),
    "kimi": CallSyntax(
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>functions.",
        ":0<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        "<|tool_calls_section_end|>",
    ),
    "gemma": CallSyntax(
        "<|tool_call>",
        "call:",
        "",
        "",
        "<tool_call|>",
        arguments="gemma",
        between="",
        quote='<|"|>',
    ),
    "function_gemma": CallSyntax(
        "<start_function_call>",
        "call:",
        "",
        "",
        "<end_function_call>",
        arguments="gemma",
        between="",
        quote="<escape>",
    ),
    "python": CallSyntax("[", "", "(", ")", "]", arguments="python", separator=", "),
    "lfm": CallSyntax(
        "<|tool_call_start|>[",
        "",
        "(",
        ")",
        "]<|tool_call_end|>",
        arguments="python",
        separator=", ",
    ),
    "olmo": CallSyntax(
        "<function_calls>",
        "",
        "(",
        ")",
        "</function_calls>",
        arguments="python",
        separator="\n",
    ),
}

CALL_NAMES: tuple[str, ...] = (*CALL_SYNTAXES, HARMONY)
"""What `tool_calls` of a model in `models.toml` may be."""

THINKING_NAMES: tuple[str, ...] = (*THINKING_SYNTAXES, "none")
"""What `thinking` of a model in `models.toml` may be."""

# Texts of which a template must contain all, and the syntax that they show; the first one counts.
_CALL_SIGNS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("<|channel|>", "<|message|>"), HARMONY),
    (("<start_function_call>",), "function_gemma"),
    (("<|tool_call>",), "gemma"),
    (("<seed:tool_call>",), "seed"),
    (("<minimax:tool_call>",), "minimax"),
    ((CALL_START, "<arg_key>"), "glm"),
    ((CALL_START, "<function="), "qwen_xml"),
    (("<｜tool▁calls▁begin｜>", "```json"), "deepseek"),
    (("<｜tool▁calls▁begin｜>",), "deepseek_v31"),
    (("<|tool_calls_section_begin|>",), "kimi"),
    (("<|START_ACTION|>",), "cohere"),
    (("[TOOL_CALLS]", "[ARGS]"), "mistral_args"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<|tool_call_start|>",), "lfm"),
    (("<function_calls>",), "olmo"),
    (("<TOOLCALL>",), "nemotron"),
    (("<tool_calls>",), "json_list"),
    ((CALL_START,), "hermes"),
    (("<|tool_call|>", "<|/tool_call|>"), "phi"),
    (("<|tool_call|>",), "granite"),
    (("[func_name1(",), "python"),
    (('"parameters"',), "llama"),
    (("<|python_tag|>",), "llama"),
)

_THINKING_SIGNS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("<seed:think>",), "seed"),
    (("<|START_THINKING|>",), "cohere"),
    (("[THINK]",), "mistral"),
    (("<|channel>",), "gemma"),
    (("◁think▷",), "kimi"),
    (("<think>", "<response>"), "think_response"),
    (("<think>", "<answer>"), "think_answer"),
    (("<think>",), "think"),
    (("</think>",), "think"),
    (("<thought>",), "thought"),
    (("Here is my thought process:",), "granite"),
)

# What the tables do not list, but calls are read with.
_READ = {
    "<|python_tag|>",
    "[CALL_ID]",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|end|>",
    "<|constrain|>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<|/tool_call|>",
    "[ARGS]",
    "<｜tool▁sep｜>",
    "｜DSML｜",
}

MARKS: str = "\n".join(
    [
        *_READ,
        *(
            part
            for call in CALL_SYNTAXES.values()
            for part in (
                call.begin,
                call.before_name,
                call.after_name,
                call.after_arguments,
                call.end,
                call.quote,
            )
        ),
    ]
)
"""All that may mark calls and channels. A special token that occurs in it is read as text."""


def find_syntax(
    template: str, *, thinking: str | None = None, calls: str | None = None
) -> AnswerSyntax:
    """Return the syntax of the answers of a model.

    Args:
        template: The model's chat template.
        thinking: The name of the syntax of thoughts, or "none", where the user has said it.
        calls: The name of the syntax of calls, where the user has said it.
    """
    if calls is None:
        calls = _sign_in(template, _CALL_SIGNS) or "hermes"
        if calls != HARMONY and "tools" not in template:
            calls = "hermes"  # the engine writes tools as text then, and asks for this syntax
    name = thinking or _sign_in(template, _THINKING_SIGNS) or "none"
    return AnswerSyntax(THINKING_SYNTAXES.get(name), calls)


def _sign_in(template: str, signs: tuple[tuple[tuple[str, ...], str], ...]) -> str | None:
    for texts, name in signs:
        if all(text in template for text in texts):
            return name
    return None
