from __future__ import annotations

import pytest

from tunesmith.datasets import Dataset, templates, tokens
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.prompt_format import PromptFormat


def written(examples):
    """The rows of the data set, which must need no further change."""
    values = [row.value for row in examples.dataset()]
    plan = Dataset.from_rows(values).plan(examples.prompt_format)
    assert [fix for fix in plan.fixes if fix.enabled] == []
    return values


def test_classification_gives_single_tokens_and_the_cheapest_model():
    records = [{"text": f"a text {k}", "label": ("baseball", "hockey")[k % 2]} for k in range(20)]
    examples = templates.classification(records)
    assert examples.prompt_format == PromptFormat("\n\n###\n\n", " ", "")
    assert written(examples)[0] == {"prompt": "a text 0\n\n###\n\n", "completion": " baseball"}
    assert examples.hyperparameters == {"model": "ada"}
    assert examples.advised_rows == 200
    assert examples.label_of(" hockey") == "hockey"
    assert examples.label_of(" tennis") is None


def test_many_classes_become_numbers_of_one_token():
    names = [f"the class called {k:03}" for k in range(500)]
    records = [{"text": f"text {k}", "label": names[k % 500]} for k in range(1_000)]
    examples = templates.number_classes(records)
    completions = {row["completion"] for row in written(examples)}
    assert len(completions) == 500
    assert all(
        text.startswith(" ") and text.endswith("\n") and tokens.count(text.rstrip("\n")) == 1
        for text in completions
    )
    assert examples.classes[names[7]] == "7"
    assert examples.label_of(" 7") == names[7]
    assert examples.prompt_format.inference_parameters(examples.classes.values()) == {
        "stop": ["\n"],  # " 1" begins " 10"
        "max_tokens": 4,  # in any vocabulary
        "logprobs": 5,
    }


def test_more_classes_than_can_be_told_apart_are_an_error():
    records = [{"text": "x", "label": str(k)} for k in range(501)]
    with pytest.raises(DatasetError, match="501 classes"):
        templates.number_classes(records)


def test_generation_has_a_stop_sequence_that_fits_and_gentle_training():
    records = [{"article": f"long text {k}", "headline": f"first {k}\nsecond"} for k in range(9)]
    examples = templates.conditional_generation(records, "article", "headline")
    assert examples.prompt_format.stop == " END"
    assert written(examples)[1]["completion"] == " first 1\nsecond END"
    assert examples.hyperparameters["n_epochs"] in {1, 2}
    assert examples.advised_rows == 500


def test_entities_stand_on_lines_of_their_own_in_one_order():
    records = [
        {"text": "Portugal plays Germany in Berlin", "entities": ["Portugal", "Berlin", "Germany"]}
    ]
    assert written(templates.entity_extraction(records))[0]["completion"] == (
        " Berlin\nGermany\nPortugal END"
    )
    appearing = templates.entity_extraction(records, order="appearance")
    assert appearing.rows[0]["completion"] == "Portugal\nGermany\nBerlin"


def test_each_reply_of_the_agent_is_a_row():
    conversation = {
        "messages": [
            {"role": "system", "content": "Summary: a parcel is lost."},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "Where is it?"},
            {"role": "assistant", "content": "I look."},
            {"role": "user", "content": "Thanks\n\nagain"},
            {"role": "assistant", "content": "Welcome"},
        ]
    }
    examples = templates.chatbot([conversation, conversation["messages"][1:4]])
    assert examples.prompt_format == PromptFormat("\n\nAgent:", " ", "\n")
    rows = written(examples)
    assert len(rows) == 5
    assert rows[2] == {
        "prompt": (
            "Summary: a parcel is lost.\n\n###\nAgent: Hello!\nCustomer: Where is it?\n"
            "Agent: I look.\nCustomer: Thanks\nagain\n\nAgent:"
        ),
        "completion": " Welcome\n",
    }
    assert rows[0]["prompt"] == "Summary: a parcel is lost.\n\n###\n\nAgent:"
    assert rows[3]["prompt"] == "\n\nAgent:"


def test_properties_are_told_in_sentences():
    record = {
        "name": "Lux",
        "colour": "red",
        "fits_models": ["A", "B"],
        "size": None,
        "description": "A lamp.",
    }
    examples = templates.product_description([record])
    assert written(examples)[0] == {
        "prompt": (
            "The product is called Lux. Its colour is red. Its fits models are A, B.\n\n###\n\n"
        ),
        "completion": " A lamp.\n",
    }


def test_a_missing_field_names_those_there_are():
    with pytest.raises(DatasetError, match="'tweet', 'mood'"):
        templates.classification([{"tweet": "x", "mood": "y"}])
