"""Archived jobs planned as local ones, exported for other services, trained by a real engine."""

import json
import re
import shlex
import tomllib

import pytest

from tunesmith import TunesmithError, migrate
from tunesmith.cli import main
from tunesmith.migrate import Base, Machine, PlanError, plan, read_plan, write_plan
from tunesmith.testing import recorded_organization, simulate

GB = 10**9
BASES = [
    Base("small-1b", 10**9, 8_192, tools=False, thinks="never", languages="English",
         installed=True, memory={"lora": 4 * GB, "qlora": 2 * GB}),
    Base("talker-4b", 4 * 10**9, 32_768, tools=True, thinks="never", languages="100+",
         memory={"lora": 10 * GB, "qlora": 4 * GB}),
    Base("thinker-8b", 8 * 10**9, 32_768, tools=True, thinks="always", languages="100+",
         memory={"lora": 19 * GB, "qlora": 6 * GB}),
    Base("switch-8b", 8 * 10**9, 32_768, tools=True, thinks="switch", languages="100+",
         memory={"lora": 19 * GB, "qlora": 6 * GB}),
    Base("giant-70b", 70 * 10**9, 131_072, tools=True, thinks="never", languages="8",
         memory={"lora": 155 * GB, "qlora": 43 * GB}),
]  # fmt: skip
CARD = Machine("a card", 24 * GB, 1e14, ("lora", "qlora"))


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


LABELLED = [{"messages": [user(f"text {n}"), assistant(["yes", "no"][n % 2])]} for n in range(40)]
FREE = [{"messages": [user(f"question {n}"), assistant(f"answer number {n}")]} for n in range(40)]


@pytest.fixture
def make_archive(tmp_path):
    """Return a function that writes an archive of some jobs by hand."""

    def make(jobs, files, gaps=()):
        folder = tmp_path / "archive"
        project = folder / "projects" / "proj_1"
        for job in jobs:
            path = project / "jobs" / job["id"]
            path.mkdir(parents=True)
            (path / "job.json").write_text(json.dumps(job))
        for identity, rows in files.items():
            path = project / "files" / identity
            path.mkdir(parents=True)
            (path / "meta.json").write_text(json.dumps({"id": identity, "object": "file"}))
            (path / "content.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        manifest = {"schema": "tunesmith.archive/1", "projects": [{"id": "proj_1"}],
                    "gaps": list(gaps), "entries": []}  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return make


def job(number=1, **fields):
    values = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.8}
    return {
        "object": "fine_tuning.job",
        "id": f"ftjob-{number}",
        "created_at": number,
        "model": "gpt-4o-mini-2024-07-18",
        "fine_tuned_model": f"ft:gpt-4o-mini-2024-07-18:acme:bot:{number}",
        "status": "succeeded",
        "training_file": "file-train",
        "validation_file": None,
        "hyperparameters": values,
        "method": {"type": "supervised", "supervised": {"hyperparameters": values}},
        "seed": 42,
        "result_files": [],
    } | fields


def test_what_the_service_chose_by_itself_stays_auto_and_a_multiplier_is_never_copied(make_archive):
    set_by_hand = {"n_epochs": 7, "batch_size": 4, "learning_rate_multiplier": 2e-5}
    archive = make_archive(
        [job(1), job(2, hyperparameters=set_by_hand, method=None)], {"file-train": FREE}
    )
    chosen, by_hand = plan(archive, BASES, CARD).jobs
    assert (chosen.n_epochs, chosen.batch_size) == ("auto", "auto")
    assert (by_hand.n_epochs, by_hand.batch_size) == (7, 4)
    assert chosen.learning_rate_multiplier == by_hand.learning_rate_multiplier == "auto"
    assert any("learning_rate_multiplier was 2e-05" in note for note in by_hand.notes)
    assert (chosen.suffix, chosen.seed) == ("bot", 42)


@pytest.mark.parametrize(
    ("model", "rows", "machine", "base"),
    [
        ("gpt-4o-mini-2024-07-18", FREE, CARD, "switch-8b"),
        ("gpt-4.1-nano-2025-04-14", FREE, CARD, "talker-4b"),
        ("gpt-4o-mini-2024-07-18", LABELLED, CARD, "talker-4b"),  # classification needs less
        ("gpt-4o-2024-08-06", FREE, Machine("two cards", 160 * GB, None, ("lora",)), "giant-70b"),
        ("gpt-4o-mini-2024-07-18", FREE, Machine("a laptop", 5 * GB), "small-1b"),
    ],
)
def test_the_advised_base_fits_the_job_and_the_machine(make_archive, model, rows, machine, base):
    archive = make_archive([job(model=model)], {"file-train": rows})
    (planned,) = plan(archive, BASES, machine).jobs
    assert planned.bases == [base]
    assert planned.run


def test_tools_and_languages_rule_bases_out(make_archive):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    laptop = Machine("a laptop", 5 * GB)
    archive = make_archive(
        [job(1), job(2, training_file="file-russian")],
        {"file-train": [{**row, "tools": tools} for row in FREE],
         "file-russian": [{"messages": [user("Привет, мир"), assistant(f"Ответ {n}")]}
                          for n in range(40)]},
    )  # fmt: skip
    with_tools, russian = plan(archive, BASES, laptop).jobs
    assert not with_tools.run
    assert any("No base is advised" in note and "call tools" in note for note in with_tools.notes)
    assert any("English alone" in note for note in russian.notes)


def test_what_cannot_be_carried_over_is_named_with_its_reason(make_archive):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}}
    seen = [{"messages": [user([{"type": "text", "text": "see"}, image]), assistant("a")]}] * 3
    grader = {"type": "string_check", "name": "g"}
    gap = {"path": "projects/proj_1/files/file-gone", "remote_id": "file-gone", "what": "file",
           "status": "gone", "http_status": 404, "message": "No such File object"}  # fmt: skip
    archive = make_archive(
        [
            job(1, training_file="file-images"),
            job(2, training_file="file-gone"),
            job(3, method={"type": "reinforcement", "reinforcement": {"grader": grader}}),
            job(4, integrations=[{"type": "wandb", "wandb": {"project": "p"}}]),
            job(5, fine_tuned_model=None, status="failed"),
        ],
        {"file-images": seen, "file-train": FREE},
        [gap],
    )
    made = plan(archive, BASES, CARD)
    images, gone, reinforcement, tracked = made.jobs
    assert any("3 parts of its rows are image_url" in note for note in images.notes)
    assert any("file-gone is missing (gone: No such File object)" in note for note in gone.notes)
    assert not gone.run
    assert not reinforcement.run
    assert any("'reinforcement'" in note for note in reinforcement.notes)
    assert any("wandb" in note for note in tracked.notes)
    assert made.left_out == {"ftjob-5": "it ended failed without a model"}


def test_a_job_that_continued_another_comes_after_it(make_archive):
    first = job(1)
    archive = make_archive(
        [job(2, model=first["fine_tuned_model"]), first, job(3, model="ft:gpt-4o-mini:x::gone")],
        {"file-train": FREE},
    )
    parent, child, orphan = plan(archive, BASES, CARD).jobs
    assert child.after == parent.old_model
    assert orphan.after is None
    assert any("not in this archive" in note for note in orphan.notes)


def test_legacy_jobs_are_planned_like_the_others(make_archive):
    legacy = {
        "object": "fine-tune", "id": "ft-1", "model": "curie", "created_at": 1,
        "status": "succeeded", "fine_tuned_model": "curie:ft-acme-2023-03-03-21-44-20",
        "training_files": [{"id": "file-old", "object": "file"}], "validation_files": [],
        "result_files": [], "hyperparams": {"n_epochs": 4, "batch_size": 8,
                                            "learning_rate_multiplier": 0.1,
                                            "prompt_loss_weight": 0.01},
    }  # fmt: skip
    rows = [{"prompt": f"{n} ->", "completion": f" word {n}"} for n in range(40)]
    (planned,) = plan(make_archive([legacy], {"file-old": rows}), BASES, CARD).jobs
    assert (planned.run, planned.n_epochs, planned.batch_size) == (True, 4, 8)
    assert any("prompt_loss_weight was 0.01" in note for note in planned.notes)


def test_the_file_is_edited_and_read_back(make_archive, tmp_path):
    archive = make_archive([job(1, suffix='he said "no"\n')], {"file-train": FREE})
    made = plan(archive, BASES, CARD)
    path = write_plan(made, tmp_path / "plan.toml")
    again = read_plan(path)
    assert [one.bases for one in again.jobs] == [["switch-8b"]]
    assert again.jobs[0].suffix == made.jobs[0].suffix
    assert "# estimate: 40 rows" in path.read_text()
    path.write_text(path.read_text().replace('["switch-8b"]', '["talker-4b", "small-1b"]'))
    assert read_plan(path).jobs[0].bases == ["talker-4b", "small-1b"]
    with pytest.raises(PlanError, match="is there already"):
        write_plan(made, path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_epochs =", "epochs =", "has 'epochs', which is no setting"),
        ('n_epochs = "auto"', 'n_epochs = "many"', "must be a number or"),
        ("run = true", "run = 1", "run must be a bool"),
        ('bases = ["switch-8b"]', "bases = []", "has no bases"),
        ("\n[[job]]\n", "\n[[jobs]]\n", "is no plan"),
        ("archive =", "archive", "cannot be read"),
        ('method = "supervised"', 'method = "x"', "supervised or dpo"),
    ],
)
def test_a_plan_that_was_misedited_is_refused_with_its_place(
    make_archive, tmp_path, *, old, new, message
):
    path = write_plan(
        plan(make_archive([job()], {"file-train": FREE}), BASES, CARD), tmp_path / "p"
    )
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(PlanError, match=message):
        read_plan(path)


def test_a_hostile_archive_breaks_no_file(make_archive, tmp_path):
    nasty = 'x"]\nrun = true\n[[job]]\nname = "evil'
    archive = make_archive(
        [job(1, fine_tuned_model=f"ft:gpt-4o-mini:{nasty}", status=nasty),
         job(2, fine_tuned_model=None, status=nasty)],
        {"file-train": FREE},
    )  # fmt: skip
    path = write_plan(plan(archive, BASES, CARD), tmp_path / "plan.toml")
    content = tomllib.loads(path.read_text())
    assert len(content["job"]) == 1
    assert nasty in content["job"][0]["old_model"]


@pytest.mark.parametrize("target", ["together", "fireworks", "azure", "nebius", "bedrock"])
def test_every_service_gets_a_request_and_what_is_lost(make_archive, target):
    values = {"n_epochs": 30, "batch_size": 64, "learning_rate_multiplier": 2e-5}
    archive = make_archive(
        [
            job(
                1,
                hyperparameters=values,
                method=None,
                validation_file="file-train",
                suffix="s" * 60,
            )
        ],
        {"file-train": FREE},
    )
    (one,) = [one.to_dict() for one in migrate.export_plan(plan(archive, BASES, CARD), target)]
    assert one["request"]["method"] == "POST"
    assert any("keep_best" in text for text in one["lost"])
    assert any("early_stopping" in text for text in one["lost"])
    body = json.dumps(one["request"]["body"])
    assert "2e-05" not in body
    expected = {
        "together": ['"n_epochs": 30', '"random_seed": 42', '"lora_r": 16'],
        "fireworks": ['"epochs": 30', '"batchSizeSamples": 64'],
        "azure": ['"trainingType"', '"seed": 42'],
        "nebius": ['"n_epochs": 20', '"batch_size": 32', '"lora": true'],
        "bedrock": ['"epochCount": "30"', '"batchSize": "64"'],
    }[target]
    assert all(text in body for text in expected), body
    json.loads(body)


def test_an_unknown_service_is_named(make_archive):
    made = plan(make_archive([job()], {"file-train": FREE}), BASES, CARD)
    with pytest.raises(TunesmithError, match="there is together"):
        migrate.export_plan(made, "mistral")


@pytest.fixture
def run(capsys):
    def command(line):
        code = main(shlex.split(line))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.mark.slow
def test_a_plan_is_trained_once_in_order_on_every_base(make_archive, tmp_path):
    """The second job continues the first, on both bases; the engine simulates the training."""
    first = job(1, validation_file="file-valid")
    archive = make_archive(
        [first, job(2, model=first["fine_tuned_model"])],
        {"file-train": LABELLED[:8], "file-valid": LABELLED[8:12]},
    )
    made = plan(archive)
    for one in made.jobs:
        one.bases, one.run, one.n_epochs = ["ada", "gpt-4o-mini"], True, 2
    path = write_plan(made, tmp_path / "plan.toml")
    seen = []
    with simulate() as engine, engine.client() as client:
        trained = migrate.train(client, path, on_event=lambda one: seen.append(one.status))
        assert [one.status for one in trained] == ["succeeded"] * 4
        parents = {
            one.base: one.model for one in trained if one.old_model == first["fine_tuned_model"]
        }
        for one in trained:
            created = client.fine_tuning.jobs.retrieve(one.job_id)
            assert created.metadata["replaces"] == one.old_model
            if one.old_model != first["fine_tuned_model"]:
                assert created.model == parents[one.base]
        assert seen.count("succeeded") == 4
        before = len(list(client.fine_tuning.jobs.list()))
        again = migrate.train(client, path)
        assert [one.model for one in again] == [one.model for one in trained]
        assert len(list(client.fine_tuning.jobs.list())) == before


@pytest.fixture
def simulated():
    with simulate() as engine:
        yield engine


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["simulated", "tiny"])
def test_the_whole_way_from_a_recorded_organisation(tmp_path, run, monkeypatch, request, kind):
    """Pull, record, plan, train, compare: one command each, over real sockets."""
    monkeypatch.chdir(tmp_path)
    with recorded_organization(projects=1, files=12, jobs=4, rows=12, stored=4) as old:
        monkeypatch.setenv("TUNESMITH_API_KEY", next(iter(old.keys.values())))
        monkeypatch.setenv("TUNESMITH_BASE_URL", old.base_url)
        assert run("migrate pull archive")[0] in {0, 5}
        archive = migrate.Archive("archive")
        wanted = next(
            one.fine_tuned_model
            for one in archive.jobs()
            if (one.fine_tuned_model or "").startswith("ft:")
            and one.validation_file
            and archive.file(one.project, one.validation_file).content
            and archive.file(one.project, one.training_file).content
            and (one.job.get("method") or {}).get("type") == "supervised"
        )
        code, out, err = run(
            f"migrate record -m {wanted} --archive archive --twice 0.3 --purpose evaluation --yes "
            "--sample 20"
        )
        assert code == 0, err
    engine = request.getfixturevalue("simulated" if kind == "simulated" else "tiny_engine")
    monkeypatch.setenv("TUNESMITH_API_KEY", "any")
    monkeypatch.setenv("TUNESMITH_BASE_URL", engine.base_url)
    base = "ada" if kind == "simulated" else "tiny"
    code, out, err = run(f"migrate plan archive --base {base}")
    assert code == 0, err
    text = (tmp_path / "plan.toml").read_text()
    blocks = re.split(r"(?m)^(?=\[\[job\]\])", text)
    kept = blocks[0] + "".join(one for one in blocks[1:] if f'old_model = "{wanted}"' in one)
    (tmp_path / "plan.toml").write_text(re.sub(r"(?m)^n_epochs = .*", "n_epochs = 1", kept))
    code, out, err = run("migrate train plan.toml --json")
    assert code == 0, err
    (trained,) = json.loads(out)
    recording = archive.recording_folder(wanted)
    code, out, err = run(
        f"migrate compare {recording} --model {trained['model']} --html report.html "
        '--require "agreement>=0.99"'
    )
    assert code == 4, err  # neither memory nor a random model is a replacement
    page = (tmp_path / "report.html").read_text()
    assert wanted in page
    assert "not met" in page


def test_a_plan_of_one_model_has_what_it_continued_and_no_more(make_archive):
    jobs = [
        {"id": f"ftjob-{name}", "object": "fine_tuning.job", "model": base, "status": "succeeded",
         "fine_tuned_model": f"ft:{name}", "training_file": "file-1", "created_at": at}
        for at, (name, base) in enumerate(
            [("a", "gpt-4o-mini-2024-07-18"), ("b", "ft:a"), ("c", "gpt-4o-mini-2024-07-18")]
        )
    ]  # fmt: skip
    archive = make_archive(jobs, {"file-1": LABELLED})
    made = plan(archive, BASES, CARD, models=["ft:b"])
    assert [job.old_model for job in made.jobs] == ["ft:a", "ft:b"]
    with pytest.raises(migrate.ArchiveError, match="made ft:x"):
        plan(archive, BASES, CARD, models=["ft:x"])
