"""The commands that change the table of base models, and what they leave of it as it was."""

from __future__ import annotations

import json

import pytest

from tunesmith.cli import main
from tunesmith.engine.home import Home
from tunesmith.engine.models.catalog import load_catalog
from tunesmith.engine.models.memory_table import USES, memory_needed
from tunesmith.engine.models.model_errors import CatalogError, UnknownModelError
from tunesmith.engine.models.table_edit import add_base, remove_base, use_for_name

WRITTEN = """\
# ours
default = "house"   # what answers

[base.house]
path = "weights/house"

[names]
# the old default
gpt-4o = "house"
"""


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.base_model_table.write_text(WRITTEN)
    return home


def test_a_name_stands_for_another_base_and_comments_stay(home):
    use_for_name(home, "gpt-4o-mini", "qwen3-4b")
    text = home.base_model_table.read_text()
    assert text.startswith(WRITTEN.rstrip())
    catalog = load_catalog(home)
    assert catalog.find("gpt-4o-mini").hub_id == "Qwen/Qwen3-4B-Instruct-2507"
    assert catalog.find("gpt-4o-mini-2024-07-18").id == "qwen3-4b"
    assert catalog.canonical_name("gpt-4o-mini") == "gpt-4o-mini-2024-07-18"
    assert catalog.find("gpt-4o").id == "house"


def test_a_name_of_ones_own_and_a_hub_id_that_the_table_lacks(home):
    use_for_name(home, "our-model", "acme/Model-7B")
    assert load_catalog(home).find("our-model").hub_id == "acme/Model-7B"


def test_what_was_added_is_removed_with_its_names(home):
    add_base(home, "mine", hub="acme/mine")
    use_for_name(home, "gpt-4.1", "mine")
    assert remove_base(home, "mine")
    assert home.base_model_table.read_text().rstrip("\n") == WRITTEN.rstrip("\n")
    assert not remove_base(home, "mine")
    assert remove_base(home, "house")
    assert load_catalog(home).find("gpt-4o").id == "smollm2-135m-instruct"


def test_a_change_that_would_break_the_table_changes_nothing(home):
    for change in (
        lambda: add_base(home, "house", hub="acme/other"),
        lambda: add_base(home, "broken", hub="no hub id"),
        lambda: use_for_name(home, "house", "qwen3-4b"),
        lambda: use_for_name(home, "gpt-4o", "nothing"),
    ):
        with pytest.raises((CatalogError, UnknownModelError)):
            change()
        assert home.base_model_table.read_text() == WRITTEN


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[base.x]\nhub = "a/b"\nlicence = "mit"', r"base\.x\.licence: .*license, parameters"),
        ('[names.x]\nmodel = "y"', r"names\.x\.model: .*Allowed are: base, canonical"),
        ("[bases]", r"bases: .*Allowed are: base, default, names"),
        ("default = [", "is not valid TOML"),
    ],
)
def test_an_error_in_the_table_names_the_place_and_the_allowed_keys(home, text, message):
    home.base_model_table.write_text(text)
    with pytest.raises(CatalogError, match=message):
        load_catalog(home)


def run(home, *arguments):
    return main(["models", *arguments, "--home", str(home.root)])


def test_the_commands(home, tiny_base_model, capsys):
    assert run(home, "add", str(tiny_base_model), "--as", "tiny") == 0
    assert run(home, "use", "gpt-4o-mini=tiny", "gpt-4.1=qwen3-8b") == 0
    capsys.readouterr()
    assert run(home, "list", "--json") == 0
    listed = {model["id"]: model for model in json.loads(capsys.readouterr().out)}
    assert listed["tiny"]["installed"]
    assert listed["tiny"]["names"] == ["gpt-4o-mini"]
    assert listed["qwen3-8b"]["license"] == "apache-2.0"
    assert run(home, "list") == 0
    table = capsys.readouterr().out
    assert table.splitlines()[1].split()[:2] == ["tiny", "yes"]
    assert run(home, "show", "gpt-4.1") == 0
    assert "memory for lora: 19.5 GB" in capsys.readouterr().out
    assert run(home, "du") == 0
    assert "tiny" in capsys.readouterr().out
    assert run(home, "remove", "tiny") == 0
    assert "is yours and stays" in capsys.readouterr().err
    assert (tiny_base_model / "config.json").is_file()


def test_a_pulled_model_is_removed_from_the_disk(home, tiny_base_model, capsys):
    import shutil

    folder = home.base_models / "acme--mine"
    shutil.copytree(tiny_base_model, folder)
    assert run(home, "remove", "acme/mine") == 0
    assert "free again" in capsys.readouterr().out
    assert not folder.exists()
    assert run(home, "remove", "acme/mine") == 1
    assert "nothing to remove" in capsys.readouterr().err


def test_a_base_that_a_fine_tuned_model_needs_stays(tiny_home, capsys):
    from tunesmith.engine.store import model_queries
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import ModelRow

    database = Database(f"sqlite:///{tiny_home.database}")
    database.migrate()
    with database.write() as connection:
        row = ModelRow("ft:tiny:local::abc", "local", 0.0, "job", "tiny", "tiny", "models/x")
        model_queries.insert_model(connection, row)
    database.close()
    assert run(tiny_home, "remove", "tiny") == 1
    assert "is the base of ft:tiny:local::abc" in capsys.readouterr().err
    assert "tiny" in load_catalog(tiny_home).base_ids


def test_wrong_pairs_and_folders_are_named(home, tmp_path, capsys):
    assert run(home, "use", "gpt-4o-mini") == 1
    assert "NAME=BASE" in capsys.readouterr().err
    assert run(home, "add", str(tmp_path), "--as", "empty") == 1
    assert "has no config.json" in capsys.readouterr().err


def test_estimates_are_near_those_that_others_state():
    # Gigabytes for LoRA in 16 bits and in 4 bits, as Unsloth states them.
    for billions, lora, qlora in (
        (3, 8, 3.5),
        (8, 22, 6),
        (14, 33, 8.5),
        (32, 76, 26),
        (70, 164, 41),
    ):
        parameters = int(billions * 1e9)
        assert 0.7 < memory_needed(parameters, "lora") / (lora * 1e9) < 1.4
        assert 0.7 < memory_needed(parameters, "qlora") / (qlora * 1e9) < 1.4
        assert [memory_needed(parameters, use) for use in USES].count(0) == 0
