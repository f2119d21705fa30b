"""Prompts from data files and from what evaluation tools export."""

import json

import pytest

from tunesmith.datasets import PromptFormat
from tunesmith.migrate import RecordingError, read_prompts, sample_prompts
from tunesmith.migrate.eval_items import promptfoo_prompts, to_promptfoo
from tunesmith.migrate.prompts import twice_ids


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **fields):
    return {"role": "assistant", "content": text, **fields}


def test_a_chat_row_is_cut_before_the_last_answer(tmp_path):
    row = {"messages": [user("a"), assistant("b"), user("c"), assistant("d")], "tools": []}
    (prompt,) = read_prompts(write(tmp_path / "v.jsonl", row), "validation").prompts
    assert prompt.body == {"messages": [user("a"), assistant("b"), user("c")], "tools": []}
    assert prompt.reference == assistant("d")
    assert prompt.origin == "v.jsonl:1"
    assert prompt.source == "validation"


def test_each_weighted_answer_becomes_a_prompt_of_the_same_conversation(tmp_path):
    row = {"messages": [user("a"), assistant("b", weight=0), user("c"), assistant("d", weight=1),
                        user("e"), assistant("f")]}  # fmt: skip
    prompts = read_prompts(write(tmp_path / "v.jsonl", row), turns="all").prompts
    assert [prompt.reference["content"] for prompt in prompts] == ["d", "f"]
    assert {prompt.conversation for prompt in prompts} == {"v.jsonl:1"}
    assert "weight" not in json.dumps([prompt.body for prompt in prompts])


def test_every_row_format_of_fine_tuning_is_known(tmp_path):
    tools = [{"type": "function", "function": {"name": "f"}}]
    file = read_prompts(
        write(
            tmp_path / "mixed.jsonl",
            {"messages": [user("a"), assistant("b")], "tools": tools},
            {"input": {"messages": [user("c")]}, "preferred_output": [assistant("d")],
             "non_preferred_output": [assistant("e")]},
            {"messages": [user("f")], "answer": "42"},
            {"messages": [user("open question")], "response_format": {"type": "json_object"}},
        )
    )  # fmt: skip
    assert [one.body["messages"][0]["content"] for one in file.prompts] == [
        "a", "c", "f", "open question"
    ]  # fmt: skip
    assert file.prompts[0].body["tools"] == tools
    assert file.prompts[1].reference == assistant("d")
    assert file.prompts[2].item["answer"] == "42"
    assert file.prompts[3].body["response_format"] == {"type": "json_object"}


def test_legacy_rows_get_the_stop_sequence_that_is_saved_beside_them(tmp_path):
    path = write(tmp_path / "train.jsonl", {"prompt": "a ->", "completion": " yes END"})
    PromptFormat(separator=" ->", stop=" END").save(tmp_path / "train.format.json")
    (prompt,) = read_prompts(path, "training").prompts
    assert prompt.body == {"prompt": "a ->", "stop": [" END"]}
    assert prompt.reference == "yes"


def test_requests_and_lines_of_batch_files_keep_what_belongs_to_the_prompt(tmp_path):
    body = {"model": "gpt-4o", "messages": [user("a")], "temperature": 0.7, "max_tokens": 5,
            "store": True, "user": "u"}  # fmt: skip
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (prompt,) = read_prompts(write(tmp_path / "batch.jsonl", line)).prompts
    assert prompt.body == {"messages": [user("a")], "max_tokens": 5}


def test_a_stored_completion_brings_its_answer_as_the_reference(tmp_path):
    row = {"messages": [user("a")], "choices": [{"index": 0, "message": assistant("b")}]}
    (prompt,) = read_prompts(write(tmp_path / "stored.jsonl", row), "stored").prompts
    assert prompt.reference == assistant("b")


def test_rows_that_are_no_prompts_are_named_with_their_reason(tmp_path):
    path = write(tmp_path / "x.jsonl", {"text": "a"}, {"messages": [assistant("b")]},
                 {"messages": [user("c")]})  # fmt: skip
    file = read_prompts(path)
    assert len(file.prompts) == 1
    assert "is no prompt" in file.left_out["x.jsonl:1"]
    assert "assistant" in file.left_out["x.jsonl:2"]
    with pytest.raises(RecordingError, match=r"has no prompts.*x\.jsonl:1"):
        read_prompts(write(tmp_path / "x.jsonl", {"text": "a"}))


def test_doubles_are_asked_once_and_the_users_own_come_first(tmp_path):
    training = read_prompts(
        write(tmp_path / "t.jsonl", {"messages": [user("a"), assistant("x")]},
              {"messages": [user("b"), assistant("x")]}), "training").prompts  # fmt: skip
    own = read_prompts(write(tmp_path / "own.jsonl", {"messages": [user("b")]})).prompts
    chosen = sample_prompts([*training, *own])
    assert [(one.source, one.body["messages"][0]["content"]) for one in chosen] == [
        ("user", "b"), ("training", "a")
    ]  # fmt: skip


def test_a_sample_is_spread_over_sources_and_lengths_and_stays_the_same(tmp_path):
    rows = [{"messages": [user("x" * length)]} for length in range(1, 401)]
    own = read_prompts(write(tmp_path / "own.jsonl", *rows[:300])).prompts
    valid = read_prompts(write(tmp_path / "v.jsonl", *rows[300:]), "validation").prompts
    chosen = sample_prompts([*own, *valid], 40)
    assert len(chosen) == 40
    assert 8 <= sum(one.source == "validation" for one in chosen) <= 12
    lengths = [len(one.body["messages"][0]["content"]) for one in chosen]
    assert sum(length <= 150 for length in lengths) in range(11, 20)
    assert sample_prompts([*valid, *own], 40) == chosen
    assert len(sample_prompts(own, 1)) == 1


def test_the_share_that_is_recorded_twice_is_always_the_same(tmp_path):
    rows = [{"messages": [user(str(number))]} for number in range(50)]
    prompts = read_prompts(write(tmp_path / "a.jsonl", *rows)).prompts
    assert len(twice_ids(prompts, 0.2)) == 10
    assert twice_ids(prompts, 0.2) == twice_ids(prompts[::-1], 0.2)
    with pytest.raises(RecordingError, match="between 0 and 1"):
        twice_ids(prompts, 20)


PROMPTFOO = """\
prompts:
  - "Say the feeling of: {{text}}"
tests:
  - vars: {text: I love it}
    assert:
      - type: equals
        value: positive
  - vars: {text: I hate it}
    assert:
      - type: icontains
        value: NEGATIVE
      - type: llm-rubric
        value: is polite
"""


def test_promptfoo_yaml_becomes_prompts_references_and_graders(tmp_path):
    path = tmp_path / "promptfooconfig.yaml"
    path.write_text(PROMPTFOO)
    found = promptfoo_prompts(path)
    assert [one.body["messages"][0]["content"] for one in found.prompts] == [
        "Say the feeling of: I love it", "Say the feeling of: I hate it"
    ]  # fmt: skip
    assert found.prompts[0].reference == "positive"
    assert found.prompts[1].reference is None
    assert found.graders["promptfoo_icontains"]["operation"] == "ilike"
    assert found.prompts[1].item["expected"]["promptfoo_icontains"] == "NEGATIVE"
    assert "llm-rubric" in found.left_out["promptfooconfig.yaml#2.assert[1]"]
    assert len(read_prompts(path).prompts) == 2


def test_promptfoo_json_json_lines_and_csv_say_the_same(tmp_path):
    test = {"vars": {"prompt": "a"}, "assert": [{"type": "equals", "value": "b"}]}
    (tmp_path / "t.json").write_text(json.dumps([test]))
    write(tmp_path / "t.jsonl", test)
    (tmp_path / "t.csv").write_text("prompt,__expected\na,b\n")
    found = [read_prompts(tmp_path / f"t.{ending}").prompts for ending in ("json", "jsonl", "csv")]
    assert [len(one) for one in found] == [1, 1, 1]
    assert {one[0].id for one in found} == {found[0][0].id}
    assert {one[0].reference for one in found} == {"b"}


@pytest.mark.parametrize(
    ("cell", "kind"),
    [("contains: x", "promptfoo_contains"), ("rouge-n(0.5): x", "promptfoo_rouge_n")],
)
def test_promptfoo_csv_cells_name_their_assertion(tmp_path, cell, kind):
    path = tmp_path / "t.csv"
    path.write_text(f"prompt,__expected1\na,{cell}\n")
    grader = promptfoo_prompts(path).graders[kind]
    assert grader.get("pass_threshold", 0.5) == 0.5


def test_promptfoo_messages_written_as_json_are_a_conversation(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        'prompts:\n  - \'[{"role": "system", "content": "Be {{tone}}"}]\'\n'
        "tests: [{vars: {tone: kind}}]\n"
    )
    assert promptfoo_prompts(path).prompts[0].body["messages"] == [
        {"role": "system", "content": "Be kind"}
    ]


def test_yaml_that_is_none_is_named_with_its_line_and_makes_no_objects(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("tests:\n  - {a: [}\n")
    with pytest.raises(RecordingError, match=r"c\.yaml:2"):
        read_prompts(path)
    path.write_text("tests: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(RecordingError):
        read_prompts(path)
    path.write_text("prompts: [a]\n")
    with pytest.raises(RecordingError, match="no list of tests"):
        read_prompts(path)


def test_langfuse_items_become_prompts(tmp_path):
    file = read_prompts(
        write(
            tmp_path / "items.jsonl",
            {"id": "1", "input": "a", "expectedOutput": "b", "metadata": None},
            {"id": "2", "input": {"messages": [user("c")]}, "expectedOutput": {"city": "Rome"}},
            {"id": "3", "input": {"question": "d"}, "expectedOutput": None},
        )
    )
    assert [one.body["messages"][0]["content"] for one in file.prompts] == ["a", "c", "d"]
    assert [one.reference for one in file.prompts] == ["b", '{"city": "Rome"}', None]


def test_openai_eval_items_and_output_items_become_prompts(tmp_path):
    file = read_prompts(
        write(
            tmp_path / "items.jsonl",
            {"item": {"input": "a", "ideal": "b"}},
            {"object": "eval.run.output_item", "id": "oi_1", "datasource_item_id": 3,
             "datasource_item": {"question": "c", "answer": "d"},
             "sample": {"input": [{"role": "user", "content": "c?"}],
                        "output": [{"role": "assistant", "content": "e"}]}, "results": []},
            {"item": {"number": 1}},
        )
    )  # fmt: skip
    assert [one.body["messages"][0]["content"] for one in file.prompts] == ["a", "c?"]
    assert [one.reference for one in file.prompts] == ["b", "d"]
    assert file.prompts[1].item["recorded_output"] == "e"
    assert {one.source for one in file.prompts} == {"eval"}
    assert "fill in its template" in file.left_out["items.jsonl:3"]


def test_prompts_go_to_promptfoo_and_come_back(tmp_path):
    rows = [{"messages": [user("a"), assistant("b")]}, {"messages": [user("c")]}]
    prompts = read_prompts(write(tmp_path / "v.jsonl", *rows)).prompts
    back = read_prompts(write(tmp_path / "tests.jsonl", *to_promptfoo(prompts))).prompts
    assert [one.id for one in back] == [one.id for one in prompts]
    assert [one.reference for one in back] == ["b", None]
