"""A state folder with a base model that other programs know, and a fine-tuned model of it."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from typing import NamedTuple

import pytest
import torch

from exportable_model import CHAT, FULL, PLAIN, write_model_with_known_tokenizer
from tunesmith.engine.home import Home
from tunesmith.engine.store import file_queries, job_queries, model_queries
from tunesmith.engine.store.blobs import BlobStore
from tunesmith.engine.store.database import Database
from tunesmith.engine.store.records import FileRow, JobRow, ModelRow

CONVERSATION = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes."},
]


class Engine(NamedTuple):
    home: Home
    database: Database


@pytest.fixture(scope="session")
def known_base(tmp_path_factory):
    return write_model_with_known_tokenizer(tmp_path_factory.mktemp("known") / "tiny")


@pytest.fixture(scope="session")
def adapter(tmp_path_factory, known_base):
    """An adapter that PEFT has written, whose B is not zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(known_base)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj", "down_proj"],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    folder = tmp_path_factory.mktemp("adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses transformers' old names
        get_peft_model(model, config).save_pretrained(folder)
    return folder


@pytest.fixture
def engine(tmp_path, known_base, adapter):
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.base_model_table.write_text(
        f'default = "tiny"\n\n[base.tiny]\npath = "{known_base.as_posix()}"\nlicense = "mit"\n'
    )
    database = Database(f"sqlite:///{home.database}")
    database.migrate()
    rows = {
        CHAT: json.dumps({"messages": CONVERSATION}) + "\n",
        PLAIN: '{"prompt": "Good? ->", "completion": " yes"}\n',
        FULL: '{"prompt": "Good? ->", "completion": " yes"}\n',
    }
    for number, (name, text) in enumerate(rows.items()):
        add_model(Engine(home, database), name, f"job{number}", text * 3, adapter)
    yield Engine(home, database)
    database.close()


def add_model(engine, name, job_id, text, adapter):
    """Record a finished job and its model: the adapter, or whole weights."""

    home, database = engine
    folder = home.models / job_id
    if name == FULL:
        merge(home, adapter, folder)
    else:
        shutil.copytree(adapter, folder)
    source = home.root / f"{job_id}.jsonl"
    source.write_text(text)
    blobs = BlobStore(home.files)
    with blobs.add(source) as blob, database.write() as connection:
        blobs.keep(blob)
        file = FileRow(
            f"file-{job_id}",
            "local",
            time.time(),
            "rows.jsonl",
            "fine-tune",
            blob.bytes,
            blob.sha256,
        )
        file_queries.insert_file(connection, file)
        job = JobRow(
            id=job_id,
            api="fine-tuning",
            organization="local",
            created_at=time.time(),
            updated_at=time.time(),
            status="succeeded",
            model="tiny",
            base_model="tiny",
            family="tiny",
            training_file=file.id,
            seed=7,
            method="supervised",
            requested_hyperparameters={},
            resolved_hyperparameters={
                "n_epochs": 3,
                "batch_size": 1,
                "learning_rate_multiplier": 2.0,
            },
            trained_tokens=90,
        )
        job_queries.insert_job(connection, job)
        model_queries.insert_model(
            connection,
            ModelRow(name, "local", time.time(), job_id, "tiny", "tiny", f"models/{job_id}"),
        )


def merge(home, adapter, folder):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tunesmith.engine.models.catalog import load_catalog

    base = AutoModelForCausalLM.from_pretrained(load_catalog(home).resolve("tiny").path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses transformers' old names
        PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)
