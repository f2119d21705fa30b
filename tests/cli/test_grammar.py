"""The grammar itself: every command, its help, and what it costs to ask for it."""

import argparse
import os
import shlex
import subprocess
import sys

import pytest

from tunesmith.cli import main
from tunesmith.cli.parser import build_parser

HEAVY = ("torch", "transformers", "fastapi", "httpx", "pydantic", "rich", "sqlalchemy", "numpy")


def leaves(parser, path=()):
    """Yield (path, parser) of every command that does something."""
    children = [
        child
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for child in action.choices.items()
    ]
    if not children:
        yield path, parser
    for name, child in children:
        yield from leaves(child, (*path, name))


COMMANDS = dict(leaves(build_parser()))

GUIDE = [
    "files.create", "files.list", "files.get", "files.delete", "files.content",
    "fine_tunes.create", "fine_tunes.list", "fine_tunes.get", "fine_tunes.events",
    "fine_tunes.follow", "fine_tunes.cancel", "fine_tunes.results", "fine_tunes.delete",
    "fine_tuning.jobs.create", "fine_tuning.jobs.list", "fine_tuning.jobs.get",
    "fine_tuning.jobs.events", "fine_tuning.jobs.follow", "fine_tuning.jobs.cancel",
    "fine_tuning.jobs.results", "fine_tuning.job.create", "fine_tuning.job.follow",
    "completions.create", "chat.completions.create", "chat_completions.create",
    "models.list", "models.get", "models.delete",
]  # fmt: skip


@pytest.mark.parametrize("name", GUIDE)
def test_the_guide_s_commands_exist(name):
    assert ("api", name) in COMMANDS


@pytest.mark.parametrize("path", COMMANDS, ids=".".join)
def test_every_command_has_a_handler_and_help_with_an_example(path, capsys):
    assert main([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert "example:\n  " in text
    assert callable(COMMANDS[path].get_default("handler"))


def test_a_command_line_of_the_guide_is_understood():
    arguments = build_parser().parse_args(
        "-b http://h/v1 -k sk api fine_tunes.create -t train.jsonl -v valid.jsonl -m ada "
        "--suffix s --n_epochs 2 --batch_size 8 --learning_rate_multiplier 0.1 "
        "--prompt_loss_weight 0 --compute_classification_metrics --classification_n_classes 3 "
        "--classification_betas 0.5 2 --no_follow".split()
    )
    assert (arguments.api_base, arguments.api_key) == ("http://h/v1", "sk")
    assert (arguments.training_file, arguments.validation_file) == ("train.jsonl", "valid.jsonl")
    assert (arguments.n_epochs, arguments.batch_size) == (2, 8)
    assert arguments.classification_betas == [0.5, 2.0]
    assert arguments.no_follow


def test_a_connection_option_may_stand_before_or_after_the_command():
    parse = build_parser().parse_args
    before = parse("--api-base http://h/v1 api models.list".split())
    after = parse("api models.list --api-base http://h/v1".split())
    assert before.api_base == after.api_base == "http://h/v1"


@pytest.mark.parametrize("argv", [[], ["api"], ["models"], ["keys"]])
def test_an_incomplete_command_prints_its_help_and_is_wrong_usage(argv, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "COMMAND" in captured.err


def test_a_wrong_option_is_wrong_usage(capsys):
    assert main(["api", "files.get"]) == 2
    said = capsys.readouterr().err
    assert "Missing: ID." in said
    assert "example:\n  tunesmith api files.get -i " in said


def test_a_misspelt_command_is_told_what_it_may_have_meant(capsys):
    assert main(["api", "fine_tune.create", "-t", "x"]) == 2
    assert "Did you mean 'fine_tunes.create'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("jobs", "`tunesmith api fine_tuning.jobs.list`"),
        ("files", "`tunesmith api files.list`"),
        ("models.list", "It is `tunesmith api models.list`."),
        ("check -f x", "It is `tunesmith tools check`."),
        ("tools prepare_data", "`tunesmith tools fine_tunes.prepare_data`"),
        ("train -t x", "It is `tunesmith api fine_tuning.jobs.create`."),
        ("modles list", "Did you mean 'models'"),
        (
            "api fine_tuning.jobs.create -t x -m y --learning_rate 0.1",
            "--learning_rate_multiplier?",
        ),
        ("api fine_tunes.create -t x --n-epoch 2", "--n-epochs?"),
        ("serve --portt 1", "Did you mean --port?"),
        ("api files.list --verbose", "before the command: `tunesmith --verbose …`"),
        ("api files.list --follow", "no option --follow"),
        ("serve --training_file x", "`tunesmith api fine_tunes.create` has one"),
        ("api files.list all", "'all' is one argument too many for `tunesmith api files.list`"),
        ("api files.list --limit 0", "'0' is no whole number of at least 1"),
        ("migrate inventory --workers 1e2", "'1e2' is no whole number of at least 1"),
        ("migrate pull --workers +3", "'+3' is no whole number of at least 1"),
        (f"wandb sync -n {'9' * 5000}", "is no whole number of at least 1"),
        ("tools check x --max-examples -1", "'-1' is no whole number of at least 0"),
    ],
)
def test_what_is_typed_wrong_is_answered_with_what_is_right(typed, said, capsys):
    assert main(typed.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in " ".join(captured.err.split())


def test_no_option_may_be_abbreviated(capsys):
    """`--learning_rate 0.1` once became a multiplier of 0.1, without a word."""
    for path, parser in COMMANDS.items():
        assert not parser.allow_abbrev, path
    assert main("api fine_tunes.create -t x --learning_rate_mult 1".split()) == 2
    assert "--learning_rate_multiplier?" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("words", ["file-a", "-i file-a", "--id file-a", "--id=file-a"])
def test_an_id_may_stand_alone(words):
    assert build_parser().parse_args(f"api files.get {words} --json".split()).id == "file-a"


def test_the_version_is_that_of_the_package(capsys):
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tunesmith {version('tunesmith')}\n"


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from tunesmith.cli import main; main(['api', 'fine_tunes.create', '--help']); "
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("loaded []\n")


def test_a_closed_pipe_is_not_an_error():
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "tunesmith.cli", "completion", "bash"],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tunesmith", "mod"], {"models"}),
        (
            ["tunesmith", "models", ""],
            {"add", "du", "list", "pull", "remove", "show", "use", "verify", "--help"},
        ),
        (["tunesmith", "api", "fine_tunes.c"], {"fine_tunes.create", "fine_tunes.cancel"}),
        (["tunesmith", "api", "fine_tunes.create", "--classification_n"],
         {"--classification_n_classes"}),
        (["tunesmith", "-b", "http://h/v1", "api", "models.d"], {"models.delete"}),
    ],
)  # fmt: skip
def test_bash_completes_commands_and_options(words, expected, tmp_path):
    script = tmp_path / "completion.bash"
    ran = subprocess.run(
        [sys.executable, "-m", "tunesmith.cli", "completion", "bash"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    script.write_text(ran.stdout)
    quoted = " ".join(f"'{word}'" for word in words)
    shell = (
        f"source {shlex.quote(str(script))}; COMP_WORDS=({quoted}); "
        f"COMP_CWORD={len(words) - 1}; _tunesmith; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    completed = subprocess.run(
        ["/bin/bash", "-c", shell], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert set(completed.stdout.split()) == expected
