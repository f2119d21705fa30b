from __future__ import annotations

import re

import pytest

from tunesmith.engine.home import Home
from tunesmith.engine.models.catalog import load_catalog
from tunesmith.engine.models.model_errors import (
    CatalogError,
    ModelNotInstalledError,
    PullError,
    UnknownModelError,
)
from tunesmith.engine.models.pull import pull

GUIDE = ["ada", "babbage", "curie", "davinci", "gpt-3.5-turbo", "gpt-35-turbo"]
TODAY = ["babbage-002", "davinci-002", "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"]
SNAPSHOTS = ["gpt-4o-mini-2024-07-18", "gpt-3.5-turbo-1106", "gpt-4.1-nano-2025-04-14"]


def write_table(home: Home, text: str) -> None:
    home.root.mkdir(exist_ok=True)
    home.base_model_table.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", GUIDE + TODAY + SNAPSHOTS)
def test_known_names_stand_for_the_offline_model(tmp_path, name):
    assert load_catalog(Home(tmp_path)).find(name).id == "smollm2-135m-instruct"


def test_a_name_is_echoed_as_the_hosted_service_echoes_it(tmp_path):
    catalog = load_catalog(Home(tmp_path))
    assert catalog.canonical_name("gpt-3.5-turbo") == "gpt-3.5-turbo-0125"
    assert catalog.canonical_name("gpt-3.5-turbo-1106") == "gpt-3.5-turbo-1106"
    assert catalog.canonical_name("gpt-4o-mini") == "gpt-4o-mini-2024-07-18"
    assert catalog.canonical_name("curie") == "curie"


@pytest.mark.parametrize("name", ["gpt-17", "", "../../etc", "a/../b", "/etc", "ada-20", "x/y/z"])
def test_the_error_for_an_unknown_name_lists_the_known_ones(tmp_path, name):
    with pytest.raises(UnknownModelError) as caught:
        load_catalog(Home(tmp_path)).resolve(name)
    for known in ("smollm2-135m-instruct", "curie", "gpt-4o-mini", "models.toml"):
        assert known in str(caught.value)


def test_the_error_for_a_missing_model_says_how_to_get_it(tmp_path):
    with pytest.raises(ModelNotInstalledError, match="tunesmith models pull smollm2-135m-instruct"):
        load_catalog(Home(tmp_path)).resolve("ada")


def test_a_hub_id_stands_for_itself_or_its_entry(tmp_path):
    catalog = load_catalog(Home(tmp_path))
    assert catalog.find("HuggingFaceTB/SmolLM2-135M-Instruct").id == "smollm2-135m-instruct"
    other = catalog.find("HuggingFaceTB/SmolLM2-360M-Instruct")
    assert other.hub_id == "HuggingFaceTB/SmolLM2-360M-Instruct"
    assert other.path.parent == Home(tmp_path).base_models


def test_the_users_table_overlays_the_built_in_one(tiny_home, tiny_base_model):
    catalog = load_catalog(tiny_home)
    assert catalog.resolve("ada").path == tiny_base_model
    assert catalog.resolve("gpt-4o-2024-08-06").id == "tiny"
    assert [base.id for base in catalog.bases() if base.installed] == ["tiny"]
    assert "smollm2-135m-instruct" in catalog.base_ids


def test_names_can_be_added_and_a_missing_folder_is_named(tmp_path):
    home = Home(tmp_path)
    write_table(home, '[base.mine]\npath = "weights/mine"\n[names]\nmy-model = "mine"\n')
    catalog = load_catalog(home)
    assert catalog.find("ada").id == "smollm2-135m-instruct"
    with pytest.raises(ModelNotInstalledError, match=str(tmp_path / "weights" / "mine")):
        catalog.resolve("my-model")
    with pytest.raises(PullError, match="nothing to pull"):
        pull("my-model", home)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[base", "not valid TOML"),
        ("[base.x]\n", "either `hub` or `path`"),
        ('[base.x]\nhub = "a/b"\npath = "c"\n', "either `hub` or `path`"),
        ('[base.x]\nhub = "../b"\n', "base.x.hub"),
        ('[names]\nada = "nowhere"\n', "names.ada: no base model is called 'nowhere'"),
        ('default = "nowhere"\n', "default: no base model is called 'nowhere'"),
        ("[models]\n", "models: Extra inputs"),
    ],
)
def test_a_wrong_table_names_the_file_and_the_key(tmp_path, text, complaint):
    write_table(Home(tmp_path), text)
    with pytest.raises(CatalogError) as caught:
        load_catalog(Home(tmp_path))
    assert complaint in str(caught.value)
    assert "models.toml" in str(caught.value)


def test_the_default_model_is_pinned_by_commit_and_hashes(tmp_path):
    base = load_catalog(Home(tmp_path)).find("ada")
    assert re.fullmatch("[0-9a-f]{40}", base.revision or "")
    assert {"config.json", "tokenizer.json"} <= set(base.files or {})
    assert any(name.endswith(".safetensors") for name in base.files or {})


def test_the_other_built_in_models_say_what_they_are(tmp_path):
    catalog = load_catalog(Home(tmp_path))
    assert len(catalog.base_ids) > 20
    for base_id in catalog.base_ids:
        base = catalog.find(base_id)
        assert base.hub_id
        assert base.license
        assert base.facts.parameters
        assert re.fullmatch("[0-9a-f]{40}", base.revision or ""), base_id


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ('"../config.json" = "{hash}"', "config.json"),
        ('"a/model.safetensors" = "{hash}"', "model.safetensors"),
        ('"config.json" = "abc"', "config.json"),
        ('"config.json" = "{hash}"', "revision"),
    ],
)
def test_pins_that_are_none_are_errors(tmp_path, lines, named):
    revision = "" if named == "revision" else f'revision = "{"0" * 40}"\n'
    text = f'[base.mine]\nhub = "org/model"\n{revision}[base.mine.files]\n'
    write_table(Home(tmp_path / "home"), text + lines.format(hash="0" * 64))
    with pytest.raises(CatalogError, match=f"base.mine.*{re.escape(named)}"):
        load_catalog(Home(tmp_path / "home"))
