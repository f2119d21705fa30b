"""`tunesmith completion SHELL`: a script that completes commands, options, ids and file names.

The script is generated from the parser, so it always matches the commands. Where an id is expected
it asks the server, by `tunesmith completion ids KIND`, which is silent where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from .options import connect
from .parser import add_command, build_parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from tunesmith.client import Client

    from .parser import Commands

__all__ = ["register"]

BASH = """\
# tunesmith completion for bash: eval "$(tunesmith completion bash)"
_tunesmith() {{
    local IFS=$' \\t\\n' current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
    local path= word words= kind= whole reply
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$path $word" in
{paths}
        esac
    done
    case "$path" in
{words}
    esac
    case "$path" in
{ids}
    esac
    case "$path $previous" in
{options}
    esac
    # Bash breaks words at colons, which names of models have.
    whole=${{COMP_LINE:0:COMP_POINT}}; whole=${{whole##* }}
    [[ $whole == *:* ]] || whole=$current
    [[ $current == -* ]] && kind=
    [[ -n $kind ]] && words=$(tunesmith completion ids "$kind" 2>/dev/null)
    IFS=$'\\n'
    COMPREPLY=($(IFS=$' \\t\\n'; compgen -W "$words" -- "$whole"))
    if [[ $whole == *:* ]]; then
        for reply in "${{!COMPREPLY[@]}}"; do
            COMPREPLY[reply]=${{COMPREPLY[reply]#"${{whole%"${{whole##*:}}"}}"}}
        done
    fi
    if [[ ${{#COMPREPLY[@]}} -eq 0 && $current != -* ]]; then
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}}
complete -o filenames -F _tunesmith tunesmith
"""

ZSH = """\
# tunesmith completion for zsh: eval "$(tunesmith completion zsh)"
(( $+functions[compdef] )) || {{ autoload -U +X compinit && compinit }}
_tunesmith() {{
    local path_= word kind= previous=${{words[CURRENT-1]}}
    local -a found
    for word in "${{(@)words[2,CURRENT-1]}}"; do
        case "$path_ $word" in
{paths}
        esac
    done
    case "$path_" in
{words}
    esac
    case "$path_" in
{ids}
    esac
    case "$path_ $previous" in
{options}
    esac
    [[ $PREFIX == -* ]] && kind=
    [[ -n $kind ]] && found=(${{(f)"$(tunesmith completion ids $kind 2>/dev/null)"}})
    compadd -a found || _files
}}
compdef _tunesmith tunesmith
"""

FISH = """\
# tunesmith completion for fish: tunesmith completion fish | source
"""

POWERSHELL = """\
# tunesmith completion for PowerShell, for your $PROFILE:
# tunesmith completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName tunesmith -ScriptBlock {{
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @{{
{words}
    }}
    $ids = @{{
{ids}
    }}
    $options = @{{
{options}
    }}
    $path = ''
    $previous = ''
    foreach ($element in $commandAst.CommandElements | Select-Object -Skip 1) {{
        if ($element.Extent.EndOffset -ge $cursorPosition -and $wordToComplete) {{ break }}
        $previous = $element.Extent.Text
        $longer = if ($path) {{ "$path/$previous" }} else {{ $previous }}
        if ($words.ContainsKey($longer)) {{ $path = $longer }}
    }}
    $kind = $options["$path $previous"]
    if (-not $kind) {{ $kind = $ids[$path] }}
    $found = if ($kind -and -not $wordToComplete.StartsWith('-')) {{
        tunesmith completion ids $kind 2>$null
    }} else {{ $words[$path] }}
    $found | Where-Object {{ $_ -like "$wordToComplete*" }} | ForEach-Object {{
        [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
    }}
}}
"""

_MOST_IDS = 50
_PATIENCE_SECONDS = 2.0
# What an argument names, by its destination; `id` depends on the command.
_KINDS = {"model": "models", "training_file": "files", "validation_file": "files"}
_KINDS_OF_ID = {
    "files": "files",
    "fine_tunes": "fine_tunes",
    "fine_tuning": "jobs",
    "models": "models",
}


@dataclass(frozen=True, slots=True)
class _Node:
    """A command: what may follow it, and of which kind its ids are."""

    path: tuple[str, ...]
    words: list[str]
    id_kind: str
    option_kinds: dict[str, str]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "completion",
        _complete,
        "Print a shell completion script",
        'eval "$(tunesmith completion bash)"\n'
        'eval "$(tunesmith completion zsh)"\n'
        "tunesmith completion fish | source\n"
        "tunesmith completion powershell | Out-String | Invoke-Expression",
    )
    parser.add_argument("shell", choices=(*_WRITERS, "ids"), help="the shell, or `ids`: see KIND")
    parser.add_argument(
        "kind",
        nargs="?",
        choices=tuple(_LISTS),
        metavar="KIND",
        help="for scripts: print the ids of files, fine_tunes, jobs or models that a server has",
    )


def _complete(arguments: argparse.Namespace) -> int:
    if arguments.shell == "ids":
        _print_ids(arguments)
    else:
        print(_WRITERS[arguments.shell](list(_walk(build_parser(), ()))), end="")
    return 0


_LISTS: dict[str, Any] = {
    "files": lambda client: client.files.list(),
    "fine_tunes": lambda client: client.fine_tunes.list(),
    "jobs": lambda client: client.fine_tuning.jobs.list(),
    "models": lambda client: client.models.list(),
}


def _print_ids(arguments: argparse.Namespace) -> None:
    """Print ids; whatever prevents it, nobody who presses the tab key wants to read."""
    from itertools import islice

    from tunesmith.errors import TunesmithError

    try:
        with connect(arguments) as client:
            quick: Client = client.with_options(max_retries=0, timeout=_PATIENCE_SECONDS)
            for one in islice(_LISTS[arguments.kind or "models"](quick), _MOST_IDS):
                print(one.id)
    except (TunesmithError, OSError, ValueError):
        return


def _walk(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[_Node]:
    """Yield every command with what may follow it."""
    words: list[str] = []
    children: dict[str, argparse.ArgumentParser] = {}
    id_kind = ""
    option_kinds: dict[str, str] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse has no public access to them
        words += [name for name in action.option_strings if name.startswith("--")]
        kind = _kind(action, path)
        option_kinds |= dict.fromkeys(action.option_strings, kind) if kind else {}
        choices: object = action.choices
        if isinstance(choices, dict):
            children = cast("dict[str, argparse.ArgumentParser]", choices)
            words += list(children)
        elif action.choices and not action.option_strings:
            words += [str(choice) for choice in action.choices]
        elif not action.option_strings:
            id_kind = kind
    yield _Node(path, words, id_kind, option_kinds)
    for name, child in children.items():
        yield from _walk(child, (*path, name))


def _kind(action: argparse.Action, path: tuple[str, ...]) -> str:
    if action.dest == "id" and path:
        return _KINDS_OF_ID.get(path[-1].partition(".")[0], "")
    return _KINDS.get(action.dest, "")


def _join(path: Iterable[str]) -> str:
    return "/".join(path)


def _cases(nodes: list[_Node], path: str = "path") -> dict[str, str]:
    """Return the branches of the `case` commands that bash and zsh share."""
    indent = " " * 8
    return {
        "paths": "\n".join(
            f'{indent}    "{_join(n.path[:-1])} {n.path[-1]}") {path}="{_join(n.path)}" ;;'
            for n in nodes
            if n.path
        ),
        "ids": "\n".join(
            f'{indent}"{_join(n.path)}") kind={n.id_kind} ;;' for n in nodes if n.id_kind
        ),
        "options": "\n".join(
            f'{indent}"{_join(n.path)} {option}") kind={kind} ;;'
            for n in nodes
            for option, kind in n.option_kinds.items()
        ),
    }


def _bash(nodes: list[_Node]) -> str:
    words = (f'        "{_join(n.path)}") words="{" ".join(n.words)}" ;;' for n in nodes)
    return BASH.format(words="\n".join(words), **_cases(nodes))


def _zsh(nodes: list[_Node]) -> str:
    words = (f'        "{_join(n.path)}") found=({" ".join(n.words)}) ;;' for n in nodes)
    return ZSH.format(words="\n".join(words), **_cases(nodes, "path_"))


def _powershell(nodes: list[_Node]) -> str:
    def rows(pairs: Iterable[tuple[str, str]]) -> str:
        return "\n".join(f"        '{name}' = {value}" for name, value in pairs)

    def listed(words: list[str]) -> str:
        return f"@({', '.join(repr(word) for word in words)})"

    return POWERSHELL.format(
        words=rows((_join(n.path), listed(n.words)) for n in nodes),
        ids=rows((_join(n.path), repr(n.id_kind)) for n in nodes if n.id_kind),
        options=rows(
            (f"{_join(n.path)} {option}", repr(kind))
            for n in nodes
            for option, kind in n.option_kinds.items()
            if option.startswith("--")  # keys there do not tell -V from -v
        ),
    )


def _fish(nodes: list[_Node]) -> str:
    return FISH + "\n".join(_fish_lines(nodes)) + "\n"


def _fish_lines(nodes: list[_Node]) -> Iterator[str]:
    for node in nodes:
        conditions = [f"__fish_seen_subcommand_from {word}" for word in node.path]
        condition = "; and ".join(conditions) or "__fish_use_subcommand"
        begins = f"complete -c tunesmith -n '{condition}'"
        for word in node.words:
            kind = node.option_kinds.get(word)
            ids = f" -xa '(tunesmith completion ids {kind} 2>/dev/null)'" if kind else ""
            yield f"{begins} -l {word[2:]}{ids}" if word[:2] == "--" else f"{begins} -a {word}"
        for option, kind in node.option_kinds.items():
            if not option.startswith("--"):
                yield (
                    f"{begins} -s {option[1:]} -xa '(tunesmith completion ids {kind} 2>/dev/null)'"
                )
        if node.id_kind:
            yield f"{begins} -a '(tunesmith completion ids {node.id_kind} 2>/dev/null)'"


_WRITERS = {"bash": _bash, "zsh": _zsh, "fish": _fish, "powershell": _powershell}
