"""`api completions.create` and `api chat.completions.*`: query a model, export stored answers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tunesmith.cli.output import print_json, print_notice

from .call import add_call

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from tunesmith.cli.parser import Commands
    from tunesmith.client import Client
    from tunesmith.types.chat import ChatCompletion
    from tunesmith.types.completions import Completion

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the commands."""
    text = add_call(
        commands,
        "completions.create",
        _complete,
        "Complete a prompt",
        'tunesmith api completions.create -m ada -p "The capital of France is" -M 5',
    )
    text.add_argument(
        "-p",
        "--prompt",
        required=True,
        help=r"the prompt, as it was in training; \n is a line feed",
    )
    text.add_argument("--echo", action="store_true", help="print the prompt before the completion")
    text.add_argument(
        "--logprobs", type=int, metavar="N", help="log probabilities of the N most likely tokens"
    )
    text.add_argument("--best_of", "--best-of", type=int, metavar="N", help="sample N, keep n best")
    text.add_argument("--suffix", help="text that follows the completion")
    _add_sampling_options(text)
    chat = add_call(
        commands,
        "chat.completions.create",
        _chat,
        "Answer a conversation",
        'tunesmith api chat.completions.create -m gpt-3.5-turbo -g user "Tell me about Gallium"',
        aliases=["chat_completions.create"],
    )
    chat.add_argument(
        "-g",
        "--message",
        required=True,
        action="append",
        nargs=2,
        metavar=("ROLE", "CONTENT"),
        help="a message; repeat it for a conversation",
    )
    chat.add_argument(
        "--reasoning_effort",
        "--reasoning-effort",
        metavar="LEVEL",
        help="how long the model thinks: none, low, medium or high",
    )
    _add_sampling_options(chat)
    export = add_call(
        commands,
        "chat.completions.export",
        _export,
        "Write stored chat completions into a training file",
        "tunesmith api chat.completions.export -O train.jsonl --metadata rated good",
        aliases=["chat_completions.export"],
    )
    export.add_argument(
        "-O", "--output", required=True, metavar="PATH", help="the file, JSON lines"
    )
    export.add_argument("-m", "--model", metavar="MODEL", help="only those of this model")
    export.add_argument(
        "--metadata",
        action="append",
        nargs=2,
        default=[],
        metavar=("KEY", "VALUE"),
        help="only those with this pair of metadata; repeatable",
    )


def _add_sampling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--model", required=True, metavar="MODEL", help="the model's name")
    parser.add_argument(
        "-M",
        "--max_tokens",
        "--max-tokens",
        type=int,
        metavar="N",
        help="maximum length of the answer, in tokens",
    )
    parser.add_argument(
        "-t", "--temperature", type=float, metavar="X", help="0 always takes the most likely token"
    )
    parser.add_argument(
        "-P", "--top_p", "--top-p", type=float, metavar="X", help="nucleus sampling"
    )
    parser.add_argument("-n", "--n", type=int, metavar="N", help="number of answers")
    parser.add_argument(
        "--stop",
        action="append",
        metavar="TEXT",
        help=r"stop sequence; \n is a line feed; repeatable",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same answer")
    parser.add_argument(
        "--frequency_penalty", "--frequency-penalty", type=float, metavar="X", help="-2 to 2"
    )
    parser.add_argument(
        "--presence_penalty", "--presence-penalty", type=float, metavar="X", help="-2 to 2"
    )
    parser.add_argument("--stream", action="store_true", help="print the answer as it is generated")


SAMPLING = (
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "seed",
    "frequency_penalty",
    "presence_penalty",
)
TEXT_ONLY = ("logprobs", "best_of", "suffix")


def _options(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the options that were used; the server has the defaults of the others."""
    values = {name: getattr(arguments, name) for name in names}
    options = {name: value for name, value in values.items() if value is not None}
    if arguments.stop:
        options["stop"] = [unescape(text) for text in arguments.stop]
    return options


def unescape(text: str) -> str:
    r"""Return the text with `\n`, `\t` and `\\` as in Python: they are hard to type in a shell."""
    table = {"n": "\n", "t": "\t", "\\": "\\"}
    result, rest = "", text
    while "\\" in rest:
        before, _, rest = rest.partition("\\")
        escaped = table.get(rest[:1])
        result += before + ("\\" if escaped is None else escaped)
        rest = rest if escaped is None else rest[1:]
    return result + rest


def _complete(client: Client, arguments: argparse.Namespace) -> int:
    options = _options(arguments, SAMPLING + TEXT_ONLY)
    prompt = unescape(arguments.prompt)
    if arguments.echo:
        options["echo"] = True
    if arguments.stream:
        chunks: Iterable[Any] = client.completions.create(
            model=arguments.model, prompt=prompt, stream=True, **options
        )
        for chunk in chunks:
            _write(chunk.to_json(indent=None) + "\n" if arguments.json else _first_text(chunk))
        return _end(arguments)
    answer: Completion = client.completions.create(
        model=arguments.model, prompt=prompt, stream=False, **options
    )
    if arguments.json:
        print_json(answer.to_dict())
    else:
        _print_answers([choice.text for choice in answer.choices])
    return 0


def _chat(client: Client, arguments: argparse.Namespace) -> int:
    options = _options(arguments, (*SAMPLING, "reasoning_effort"))
    messages = [{"role": role, "content": unescape(content)} for role, content in arguments.message]
    if arguments.stream:
        chunks: Iterable[Any] = client.chat.completions.create(
            model=arguments.model, messages=messages, stream=True, **options
        )
        for chunk in chunks:
            if not arguments.json:
                _write_thoughts(chunk)
            _write(chunk.to_json(indent=None) + "\n" if arguments.json else _first_delta(chunk))
        return _end(arguments)
    answer: ChatCompletion = client.chat.completions.create(
        model=arguments.model, messages=messages, stream=False, **options
    )
    if arguments.json:
        print_json(answer.to_dict())
    else:
        for choice in answer.choices:
            if choice.message.reasoning_content:
                print_notice(choice.message.reasoning_content)
        _print_answers([choice.message.content or "" for choice in answer.choices])
    return 0


def _export(client: Client, arguments: argparse.Namespace) -> int:
    options: dict[str, Any] = {}
    if arguments.model:
        options["model"] = arguments.model
    if arguments.metadata:
        options["metadata"] = dict(arguments.metadata)
    found = client.chat.completions.export(arguments.output, **options)
    if arguments.json:
        print_json({"path": str(found.path), "rows": found.rows, "left_out": found.left_out})
        return 0
    print(f"{found.path}: {found.rows} rows")
    for identity, reason in found.left_out.items():
        print(f"left out {identity}: {reason}", file=sys.stderr)
    return 0


def _first_text(chunk: Any) -> str:
    return chunk.choices[0].text if chunk.choices else ""


def _first_delta(chunk: Any) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


def _write_thoughts(chunk: Any) -> None:
    """Write what a model thinks to standard error, so that the output is the answer alone."""
    if chunk.choices and (thoughts := chunk.choices[0].delta.reasoning_content):
        sys.stderr.write(thoughts)
        sys.stderr.flush()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _end(arguments: argparse.Namespace) -> int:
    if not arguments.json:
        print()
    return 0


def _print_answers(texts: list[str]) -> None:
    """Print one answer unchanged, several with a heading each."""
    if len(texts) == 1:
        print(texts[0])
        return
    for number, text in enumerate(texts, start=1):
        print(f"== answer {number}\n{text}")
