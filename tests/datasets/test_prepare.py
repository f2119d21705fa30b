from __future__ import annotations

import json
import random
import shlex
from pathlib import Path

import pytest
from tests.support.script import Script

from tunesmith.cli import main
from tunesmith.cli.parser import build_parser
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.prepare import prepare_data
from tunesmith.datasets.prompt_format import PromptFormat, format_path

SEPARATOR = "\n\n###\n\n"
DRAW = random.Random(4)  # noqa: S311 - the same texts every time
WORDS = "good bad day night sun rain work play cat dog run eat walk sing old new red blue".split()


def text():
    return " ".join(DRAW.choices(WORDS, k=12))


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def sentiment(tmp_path):
    rows = [
        {"prompt": text(), "completion": "positive" if k % 3 else "negative"} for k in range(150)
    ]
    return write(tmp_path / "sentiment.jsonl", rows)


@pytest.fixture
def stories(tmp_path):
    rows = [{"prompt": text(), "completion": f"{text()} {k}"} for k in range(40)]
    return write(tmp_path / "stories.jsonl", rows)


def test_generation_is_written_to_one_file_with_its_format(stories):
    script = Script()
    prepared = prepare_data(stories, script)
    assert prepared.training.name == "stories_prepared.jsonl"
    assert prepared.validation is None
    assert PromptFormat.load(format_path(prepared.training)) == PromptFormat(SEPARATOR, " ", "\n")
    assert prepared.format_file.name == "stories_prepared.format.json"
    rows = read(prepared.training)
    assert len(rows) == 40
    assert all(row["prompt"].endswith(SEPARATOR) for row in rows)
    assert prepared.inference_parameters == {"stop": ["\n"]}
    assert r'{"stop": ["\n"]}' in script.said[-1]
    assert r'"\n\n###\n\n"' in script.said[-1]


def test_classes_are_split_and_measured(sentiment):
    prepared = prepare_data(sentiment, Script())
    assert prepared.training.name == "sentiment_prepared_train.jsonl"
    assert prepared.validation.name == "sentiment_prepared_valid.jsonl"
    assert (len(read(prepared.training)), len(read(prepared.validation))) == (120, 30)
    assert prepared.inference_parameters == {"max_tokens": 1, "logprobs": 2}
    arguments = build_parser().parse_args(shlex.split(prepared.command)[1:])
    assert arguments.training_file == str(prepared.training)
    assert arguments.compute_classification_metrics
    assert arguments.classification_positive_class == " positive"
    assert arguments.model == "ada"


def test_bug_b02_and_b18_no_advice_ever_names_the_end_of_a_label(sentiment):
    script = Script()
    prepare_data(sentiment, script)
    everything = "\n".join(script.said + script.asked)
    assert "tive']" not in everything
    assert '"tive"' not in everything
    assert "'tive'" not in everything


def test_the_positive_class_is_the_one_that_says_yes(tmp_path):
    rows = [{"prompt": text(), "completion": "No" if k % 3 else "Yes"} for k in range(60)]
    prepared = prepare_data(write(tmp_path / "d.jsonl", rows), Script())
    assert "--classification_positive_class ' Yes'" in prepared.command


@pytest.fixture
def shades(tmp_path):
    """Classes that begin with the same token."""
    rows = [
        {"prompt": text(), "completion": f"very {'good' if k % 3 else 'bad'}"} for k in range(90)
    ]
    return write(tmp_path / "shades.jsonl", rows)


def test_classes_that_begin_with_the_same_token_are_measured(shades):
    prepared = prepare_data(shades, Script())
    assert "--classification_positive_class ' very good'" in prepared.command
    assert prepared.prompt_format.stop == "\n"
    assert prepared.inference_parameters["stop"] == ["\n"]
    assert prepared.inference_parameters["max_tokens"] == len(" very good")


def test_bug_b12_classes_that_begin_another_get_no_metrics_that_a_server_would_refuse():
    from tunesmith.datasets.preparation import create_command

    files = [Path("t.jsonl"), Path("v.jsonl")]
    classes = {"1": 50, "10": 50, "2": 50}
    bare = create_command(files, classes, PromptFormat(SEPARATOR, " ", ""))
    ended = create_command(files, classes, PromptFormat(SEPARATOR, " ", "\n"))
    assert "--compute_classification_metrics" not in bare
    assert "--classification_n_classes 3" in ended


def test_numbers_get_a_stop_sequence(tmp_path):
    rows = [{"prompt": text(), "completion": str(k % 12)} for k in range(180)]
    prepared = prepare_data(write(tmp_path / "d.jsonl", rows), Script())
    assert prepared.prompt_format.stop == "\n"
    assert prepared.inference_parameters == {"stop": ["\n"], "max_tokens": 3, "logprobs": 5}


def test_bug_b12_or_become_numbers_on_request(shades):
    script = Script("yes")
    prepared = prepare_data(shades, script)
    assert "Write the 2 classes as numbers" in script.asked[0]
    assert prepared.class_numbers == {"very bad": "0", "very good": "1"}
    assert {row["completion"] for row in read(prepared.training)} == {" 0\n", " 1\n"}
    assert "--classification_positive_class ' 1'" in prepared.command
    assert prepared.inference_parameters == {"stop": ["\n"], "max_tokens": 2, "logprobs": 2}
    saved = prepared.training.with_name("shades_prepared_train.classes.json")
    assert json.loads(saved.read_text()) == prepared.class_numbers
    assert saved.name in script.said[-1]


def test_lines_that_cannot_be_read_are_left_out_in_sight(stories):
    lines = stories.read_text().splitlines()
    lines[6] = lines[6][:-4]
    stories.write_text("\n".join(lines) + "\n")
    script = Script()
    prepared = prepare_data(stories, script)
    assert len(read(prepared.training)) == 39
    notice = next(text for text in script.said if "[Necessary]" in text)
    assert "Leave out lines that cannot be read (1 row)" in notice
    assert "line 7" in notice


def test_more_than_two_classes_are_counted(tmp_path):
    rows = [{"prompt": text(), "completion": "one two three".split()[k % 3]} for k in range(90)]
    prepared = prepare_data(write(tmp_path / "d.jsonl", rows), Script())
    assert "--classification_n_classes 3" in prepared.command


def test_bug_b18_one_class_is_an_error_with_the_reason(tmp_path):
    rows = [{"prompt": text(), "completion": " same"} for _ in range(30)]
    with pytest.raises(DatasetError, match="nothing to distinguish"):
        prepare_data(write(tmp_path / "d.jsonl", rows), Script())
    assert len(list(tmp_path.iterdir())) == 1


def test_prompts_that_are_all_the_same_are_an_error(tmp_path):
    rows = [{"prompt": "Write a story.", "completion": text()} for _ in range(30)]
    with pytest.raises(DatasetError, match="leave the prompts empty"):
        prepare_data(write(tmp_path / "d.jsonl", rows), Script())


def test_bug_b17_the_command_survives_a_shell(tmp_path):
    folder = tmp_path / "a b'c"
    folder.mkdir()
    rows = [
        {"prompt": text(), "completion": 'say "yes" $HOME' if k % 3 else "no `id`"}
        for k in range(60)
    ]
    prepared = prepare_data(write(folder / "it's $HOME & more.jsonl", rows), Script())
    words = shlex.split(prepared.command)
    assert words[words.index("-t") + 1] == str(prepared.training)
    assert words[words.index("--classification_positive_class") + 1] == ' say "yes" $HOME'


def test_bug_b21_a_guide_reads_a_long_template_without_effort(tmp_path):
    tail = " the same template sentence again." * 40
    rows = [{"prompt": f"{text()} {k}{tail}", "completion": f"{k} {text()}"} for k in range(400)]
    prepared = prepare_data(write(tmp_path / "d.jsonl", rows), Script())
    assert prepared.prompt_format.separator == SEPARATOR


def test_each_question_comes_with_its_evidence(stories):
    rows = read(stories)
    for number, row in enumerate(rows):
        row["prompt"] += SEPARATOR if number != 6 else ""
    script = Script()
    prepare_data(write(stories, rows), script)
    question = script.asked[0]
    assert "End every prompt with the separator" in question
    assert "(1 row)" in question
    assert r"39 of 40 prompts end with '\n\n###\n\n'; line 7 does not." in question
    assert "line 7: " in question


def test_a_no_is_a_no(stories):
    prepared = prepare_data(stories, Script("no", "no", "no"))
    assert read(prepared.training) == read(stories)
    assert prepared.prompt_format == PromptFormat("", "", "")
    assert prepared.inference_parameters == {}


def test_no_to_the_last_question_writes_nothing(stories):
    script = Script("yes", "yes", "yes", "no")
    assert prepare_data(stories, script) is None
    assert script.said[-1] == "Nothing was written."
    assert [file.name for file in stories.parent.iterdir()] == ["stories.jsonl"]


def test_names_are_never_overwritten(sentiment):
    first = prepare_data(sentiment, Script())
    second = prepare_data(sentiment, Script())
    assert second.training.name == "sentiment_prepared_train (1).jsonl"
    assert second.validation.name == "sentiment_prepared_valid (1).jsonl"
    assert read(first.training) == read(second.training)


def test_a_prepared_file_needs_no_more_changes(stories):
    prepared = prepare_data(stories, Script())
    script = Script()
    again = prepare_data(prepared.training, script)
    assert "No changes are needed." in script.said
    assert read(again.training) == read(prepared.training)


def test_the_format_beside_a_file_is_kept(stories):
    form = PromptFormat(" ->", " ", " END")
    form.save(format_path(stories))
    prepared = prepare_data(stories, Script())
    assert prepared.prompt_format == form
    assert all(row["completion"].endswith(" END") for row in read(prepared.training))


def test_conversations_are_prepared_too(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": text()}, {"role": "assistant", "content": "a"}]}
        for _ in range(12)
    ]
    prepared = prepare_data(write(tmp_path / "chat.jsonl", [*rows, rows[0]]), Script())
    assert read(prepared.training) == rows
    assert prepared.format_file is None
    assert prepared.inference_parameters == {}


# The command


def run(capsys, *words):
    code = main(["tools", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def answers(monkeypatch):
    """Pipe answers into the command."""
    import io

    def pipe(text):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    pipe("")
    return pipe


def test_quiet_accepts_every_recommendation(capsys, stories):
    code, out, err = run(capsys, "fine_tunes.prepare_data", "-q", "-f", stories)
    assert (code, err) == (0, "")
    assert out.count("[Y/n]: Y") == 4
    assert "stories_prepared.jsonl" in out


@pytest.mark.usefixtures("answers")
def test_without_a_terminal_and_without_answers_it_continues(capsys, stories):
    assert run(capsys, "fine_tunes.prepare_data", "-f", stories)[0] == 0
    assert stories.with_name("stories_prepared.jsonl").exists()


def test_no_means_no_in_every_spelling(capsys, stories, answers):
    answers("No\nperhaps\nN\n no \nno\n")
    code, out, _ = run(capsys, "fine_tunes.prepare_data", "-f", stories)
    assert code == 0
    assert "Please answer yes or no." in out
    assert "Nothing was written." in out
    assert not stories.with_name("stories_prepared.jsonl").exists()


def test_yes_means_yes_in_every_spelling(capsys, stories, answers):
    answers("YES\ny\n\nYes\n")
    assert run(capsys, "fine_tunes.prepare_data", "-f", stories)[0] == 0
    assert stories.with_name("stories_prepared.jsonl").exists()


@pytest.mark.usefixtures("answers")
def test_columns_can_be_named(capsys, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("id,tweet,mood\n" + "".join(f"{k},{text()},{k % 2}\n" for k in range(20)))
    code, _, err = run(capsys, "fine_tunes.prepare_data", "-f", table)
    assert code == 1
    assert "'tweet', 'mood'" in err.replace("\n", " ")
    code, out, _ = run(
        capsys, "fine_tunes.prepare_data", "-f", table, "--prompt", "tweet", "--completion", "mood"
    )
    assert code == 0
    assert "CSV will be converted to JSONL" in out


def test_a_file_that_is_not_there_is_one_paragraph(capsys, tmp_path):
    code, out, err = run(capsys, "fine_tunes.prepare_data", "-f", tmp_path / "none.csv")
    assert (code, out) == (1, "")
    assert err.startswith("Error: There is no file")


def test_a_folder_is_one_paragraph(capsys, tmp_path):
    for path in (tmp_path, "."):
        code, _, err = run(capsys, "fine_tunes.prepare_data", "-f", path)
        assert code == 1
        assert "is a folder" in " ".join(err.split())


def test_a_guessed_encoding_is_reported(capsys, tmp_path):
    table = tmp_path / "latin.csv"
    lines = ["prompt,completion", *(f"{text()} caf\xe9 {k},{k} {text()}" for k in range(20))]
    table.write_bytes("\n".join(lines).encode("latin-1"))
    _, out, _ = run(capsys, "fine_tunes.prepare_data", "-q", "-f", table)
    assert "were read as Windows-1252" in out
    assert "caf\xe9" in table.with_name("latin_prepared.jsonl").read_text(encoding="utf-8")


def test_a_single_row_is_no_pattern(capsys, tmp_path):
    file = write(tmp_path / "one.jsonl", [{"prompt": text(), "completion": text()}])
    _, out, _ = run(capsys, "fine_tunes.prepare_data", "-q", "-f", file)
    assert "1 prompt/completion row." in out
    assert "off the start" not in out


def test_check_says_what_is_wrong_and_where(capsys, tmp_path):
    file = tmp_path / "broken.jsonl"
    rows = [json.dumps({"prompt": text(), "completion": text()}) for _ in range(9)]
    rows[6] = rows[6][:-5]
    file.write_text("\n".join(rows) + "\n")
    code, out, _ = run(capsys, "check", file, "--json")
    assert code == 1
    report = json.loads(out)
    fault = next(f for f in report["findings"] if f["severity"] == "error")
    assert (fault["id"], fault["count"], fault["examples"][0]["line"]) == ("json-syntax", 1, 7)
    assert "line 7" in run(capsys, "check", file)[1]
    assert run(capsys, "check", file, "--format", "markdown")[0] == 1
    sarif = json.loads(run(capsys, "check", file, "--format", "sarif")[1])
    assert sarif["version"] == "2.1.0"


def test_examples_are_capped_and_zero_means_all(capsys, tmp_path):
    rows = [{"prompt": f"{text()} ->", "completion": " "} for _ in range(12)]
    file = write(tmp_path / "d.jsonl", rows)

    def shown(*options):
        report = json.loads(run(capsys, "check", file, "--json", *options)[1])
        found = next(f for f in report["findings"] if f["id"] == "completion-empty")
        return found["count"], len(found["examples"])

    assert shown("--max-examples", "3") == (12, 3)
    assert shown("--max-examples", "0") == (12, 12)
    assert main(["tools", "check", str(file), "--max-examples", "-1"]) == 2


def test_sound_data_ends_with_zero(capsys, stories):
    prepared = prepare_data(stories, Script())
    assert run(capsys, "check", prepared.training)[0] == 0


def test_check_holds_rows_to_the_format_beside_them(capsys, stories):
    PromptFormat(" ->", " ", " END").save(format_path(stories))
    report = json.loads(run(capsys, "check", stories, "--json")[1])
    counts = {finding["id"]: finding["count"] for finding in report["findings"]}
    assert counts["separator-missing"] == counts["stop-missing"] == 40


def test_a_leak_between_training_and_validation_is_an_error(capsys, sentiment):
    prepared = prepare_data(sentiment, Script())
    files = (prepared.training, "--validation", prepared.validation)
    assert run(capsys, "check", *files)[0] == 0
    write(prepared.validation, [*read(prepared.validation), read(prepared.training)[4]])
    code, out, _ = run(capsys, "check", *files)
    assert code == 1
    assert "line 5 of the training data" in out


def test_a_baseline_lets_known_findings_pass(capsys, tmp_path):
    rows = [{"prompt": text(), "completion": text()} for _ in range(20)]
    file = write(tmp_path / "d.jsonl", [*rows, {"prompt": "p"}])
    code, out, _ = run(capsys, "check", file, "--json")
    assert code == 1
    baseline = tmp_path / "baseline.json"
    baseline.write_text(out)
    assert run(capsys, "check", file, "--baseline", baseline)[0] == 0
    write(file, [*rows, {"prompt": "p"}, {"prompt": "q"}])
    code, _, err = run(capsys, "check", file, "--baseline", baseline)
    assert code == 1
    assert "New since the baseline: missing-field" in err


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"findings": [{}]}'])
def test_a_baseline_that_is_no_report_is_an_error(capsys, tmp_path, stories, content):
    baseline = tmp_path / "baseline.json"
    if content is not None:
        baseline.write_text(content)
    code, _, err = run(capsys, "check", stories, "--baseline", baseline)
    assert code == 1
    assert "baseline" in err


def test_a_file_of_which_no_line_can_be_read_says_why(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"prompt": "caf\xe9 ->", "completion": " yes"}\n'.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"no row to learn from.* line 1, byte 15: not valid"):
        prepare_data(path, Script())
