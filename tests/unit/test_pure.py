"""Small pure modules: pages, forms, concurrency, errors, secrets, and the public names."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import pickle
import subprocess
import sys

import pytest

import tunesmith
from tunesmith import errors
from tunesmith.core.adaptive_concurrency import AdaptiveConcurrency
from tunesmith.core.headers import HeaderFields, Headers
from tunesmith.core.multipart import FileHead, form_fields, multipart_frame
from tunesmith.core.paging import PageCursor, PageData
from tunesmith.core.redact import Secret
from tunesmith.types.fine_tuning import FineTuningJob
from tunesmith.types.legacy_fine_tunes import FineTune
from tunesmith.types.models import Model


def page(*ids: str, has_more: bool | None = True) -> PageData[Model]:
    return PageData([Model(id=one, created=1, owned_by="me") for one in ids], has_more)


def test_the_next_page_starts_after_the_last_item():
    first = page("a", "b")
    first.follow(PageCursor())
    assert first.next == PageCursor("b", frozenset({"b"}))


@pytest.mark.parametrize("last", [page("a", has_more=False), page(has_more=None), page()])
def test_the_last_page(last):
    last.follow(PageCursor("x", frozenset({"x"})))
    assert last.next is None


def test_a_page_seen_before_is_empty():
    again = page("a", "b")
    again.follow(PageCursor("b", frozenset({"b"})))
    assert (again.data, again.next) == ([], None)


def test_a_form():
    frame = multipart_frame(
        [("purpose", "fine-tune")], FileHead("file", 'a"\r\nb.jsonl', "text/plain")
    )
    assert (
        b'name="file"; filename="a%22%0D%0Ab.jsonl"\r\nContent-Type: text/plain\r\n\r\n'
        in frame.head
    )
    assert frame.boundary in frame.content_type
    assert frame.tail == f"\r\n--{frame.boundary}--\r\n".encode()
    fields = form_fields({"a": {"b": 1}, "c": None, "d": "e", "f": [True, 2]})
    assert list(fields) == [("a[b]", "1"), ("d", "e"), ("f[]", "true"), ("f[]", "2")]


def test_concurrency_rises_slowly_and_falls_fast():
    concurrency = AdaptiveConcurrency(16)
    for _ in range(200):
        concurrency.record_success(0.01 * concurrency.allowed)
    assert concurrency.allowed == 16
    concurrency.record_overload()
    assert concurrency.allowed == 8
    for _ in range(10):
        concurrency.record_overload()
    assert concurrency.allowed == 1
    assert AdaptiveConcurrency(1).allowed == 1


def test_every_error_pickles_and_copies():
    classes = [
        one for one in vars(errors).values()
        if inspect.isclass(one) and issubclass(one, errors.TunesmithError)
    ]  # fmt: skip
    assert len(classes) > 20
    info = errors.RequestInfo("GET", "http://h/")
    response = errors.ResponseInfo(404, {"x-request-id": "req_1"}, "text", info)
    for one in classes:
        try:
            known = set(inspect.signature(one).parameters)
        except ValueError:  # an exception with no constructor of its own
            known = set()
        body = {"code": "c", "param": "p", "type": "t"}
        values = {
            "extra": "plots",
            "response": response,
            "body": body,
            "request": info,
            "job": {"id": 1},
            "file": 2,
            "completion": 3,
        }
        error = one("message", **{name: value for name, value in values.items() if name in known})
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(other) is one
            assert str(other) == str(error)
            assert vars(other) == vars(error)


def test_names_of_the_official_client():
    assert tunesmith.OpenAIError is tunesmith.TunesmithError
    assert issubclass(tunesmith.APITimeoutError, tunesmith.APIConnectionError)
    assert issubclass(tunesmith.NotFoundError, tunesmith.APIStatusError)


def test_only_reveal_returns_a_secret():
    secret = Secret("sk-1")
    assert "sk-1" not in repr(secret) + str(secret) + f"{secret!s}"
    assert secret.reveal() == "sk-1"
    with pytest.raises(tunesmith.TunesmithError, match="cannot be pickled"):
        pickle.dumps(secret)
    assert not hasattr(secret, "__dict__")


def test_headers_are_case_insensitive_and_mask_secrets():
    headers = Headers([("Authorization", "Bearer sk-1"), ("X-A", "1"), ("x-a", "2")])
    assert headers["x-A"] == "1, 2"
    assert "sk-1" not in repr(headers)
    assert "sk-1" not in repr(HeaderFields({"authorization": "Bearer sk-1"}))


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_terminal_statuses_of_jobs(status):
    assert FineTuningJob.model_construct(status=status).is_terminal
    assert FineTune.model_construct(status=status).is_terminal


@pytest.mark.parametrize(
    "status", ["validating_files", "queued", "running", "paused", "pending", "new"]
)
def test_statuses_that_are_not_terminal(status):
    assert not FineTuningJob.model_construct(status=status).is_terminal
    assert not FineTune.model_construct(status=status).is_terminal


@pytest.mark.parametrize("package", ["", ".types", ".datasets", ".engine", ".results"])
def test_every_public_name_exists_and_dir_shows_just_them(package):
    module = importlib.import_module(f"tunesmith{package}")
    for name in module.__all__:
        assert getattr(module, name) is not None, name
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing
    if package != ".results":
        assert dir(module) == sorted(module.__all__)


def test_a_submodule_that_is_loaded_stays_a_public_name():
    code = "import tunesmith.types, tunesmith.engine; print('types' in dir(tunesmith), tunesmith.__all__)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("True")
    assert "'engine'" in done.stdout


def test_public_classes_name_the_package_that_exports_them():
    for package in (tunesmith, tunesmith.types):
        classes = {
            name: value
            for name in package.__all__
            if isinstance(value := getattr(package, name), type) and name not in {"Sync", "Async"}
        }
        assert {value.__module__ for value in classes.values()} == {package.__name__}
        for value in classes.values():
            assert pickle.loads(pickle.dumps(value)) is value


def test_importing_costs_next_to_nothing():
    code = """
import json, sys
before = set(sys.modules)
import tunesmith
loaded = set(sys.modules) - before
tunesmith.Client("k")
print(json.dumps([sorted(loaded), sorted(set(sys.modules) - before)]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    imported, with_client = map(set, json.loads(done.stdout))
    heavy = {"torch", "fastapi", "pandas", "numpy", "transformers", "sqlalchemy", "matplotlib"}
    for loaded in (imported, with_client):
        roots = {name.partition(".")[0] for name in loaded}
        assert not roots & {*heavy, "httpx", "pydantic", "tenacity", "asyncio", "ssl"}
    assert len(imported) <= 14
    assert len(with_client) <= 90


def test_the_tests_run_without_pytest_xdist():
    """As CONTRIBUTING.md has those install them who change the client alone."""
    command = "-m pytest -p no:xdist -p no:cacheprovider --collect-only -q".split()
    ran = subprocess.run([sys.executable, *command, __file__], capture_output=True, text=True, check=False)  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
