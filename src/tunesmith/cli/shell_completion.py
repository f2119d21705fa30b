"""`tunesmith completion SHELL`: a script that completes commands and options.

The script is generated from the parser, so it always matches the commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .parser import add_command, build_parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from .parser import Commands

__all__ = ["register"]

BASH = """\
# tunesmith completion for bash: eval "$(tunesmith completion bash)"
_tunesmith() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} path= word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$path $word" in
{paths}
        esac
    done
    local words=
    case "$path" in
{words}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ ${{#COMPREPLY[@]}} -eq 0 && $current != -* ]]; then
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}}
complete -o filenames -F _tunesmith tunesmith
"""

ZSH = """\
# tunesmith completion for zsh: eval "$(tunesmith completion zsh)"
autoload -U +X bashcompinit && bashcompinit
"""

FISH = """\
# tunesmith completion for fish: tunesmith completion fish | source
"""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "completion",
        _print_script,
        "Print a shell completion script",
        'eval "$(tunesmith completion bash)"\n'
        'eval "$(tunesmith completion zsh)"\n'
        "tunesmith completion fish | source",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def _print_script(arguments: argparse.Namespace) -> int:
    nodes = list(_walk(build_parser(), ()))
    if arguments.shell == "fish":
        print(FISH + "\n".join(_fish(nodes)))
        return 0
    bash = BASH.format(
        paths="\n".join(
            f'            "{_join(path[:-1])} {path[-1]}") path="{_join(path)}" ;;'
            for path, _ in nodes
            if path
        ),
        words="\n".join(
            f'        "{_join(path)}") words="{" ".join(words)}" ;;' for path, words in nodes
        ),
    )
    print(ZSH + bash if arguments.shell == "zsh" else bash, end="")
    return 0


def _walk(
    parser: argparse.ArgumentParser, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield every command as (path, words that may follow it)."""
    words: list[str] = []
    children: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse has no public access to them
        words += [name for name in action.option_strings if name.startswith("--")]
        choices: object = action.choices
        if isinstance(choices, dict):
            children = cast("dict[str, argparse.ArgumentParser]", choices)
            words += list(children)
        elif action.choices and not action.option_strings:
            words += [str(choice) for choice in action.choices]
    yield path, words
    for name, child in children.items():
        yield from _walk(child, (*path, name))


def _join(path: tuple[str, ...]) -> str:
    return "/".join(path)


def _fish(nodes: list[tuple[tuple[str, ...], list[str]]]) -> Iterator[str]:
    for path, words in nodes:
        conditions = [f"__fish_seen_subcommand_from {word}" for word in path]
        condition = "; and ".join(conditions) or "__fish_use_subcommand"
        for word in words:
            kind = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            yield f"complete -c tunesmith -n '{condition}' {kind}"
