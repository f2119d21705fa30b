"""Every operation exists in both modes with the same parameters, and help shows the user's view."""

from __future__ import annotations

import inspect
import pydoc
import re
from typing import Any

import pytest

from tunesmith import AsyncClient, Client
from tunesmith.core.options import RequestOptions
from tunesmith.core.signatures import parameter_texts
from tunesmith.resources.operations import Resource

NAMESPACES = [
    "files", "uploads", "uploads.parts", "fine_tunes", "fine_tuning.jobs",
    "fine_tuning.jobs.checkpoints", "fine_tuning.checkpoints.permissions",
    "fine_tuning.alpha.graders", "completions", "chat.completions", "chat.completions.messages",
    "models", "batches", "evals", "evals.runs", "evals.runs.output_items",
    "admin.organization.projects", "admin.organization.projects.rate_limits",
    "admin.organization.usage",
]  # fmt: skip


def resource(client: Any, path: str) -> Any:
    for name in path.split("."):
        client = getattr(client, name)
    return client


def operations(owner: Any) -> dict[str, Any]:
    return {
        name: getattr(owner, name)
        for name in dir(type(owner))
        if not name.startswith(("_", "with_")) and callable(getattr(type(owner), name))
        and not isinstance(getattr(owner, name), Resource)
    }  # fmt: skip


@pytest.mark.parametrize("path", NAMESPACES)
def test_both_modes_have_the_same_operations(path):
    blocking, awaited = resource(Client("k"), path), resource(AsyncClient("k"), path)
    assert type(blocking) is type(awaited)
    one, two = operations(blocking), operations(awaited)
    assert list(one) == list(two)
    assert one
    for name in one:
        assert inspect.signature(one[name]).parameters == inspect.signature(two[name]).parameters
        assert one[name].__doc__


@pytest.mark.parametrize("path", NAMESPACES)
def test_signatures_are_spelt_out(path):
    for name, method in operations(resource(Client("k"), path)).items():
        parameters = inspect.signature(method).parameters
        assert "self" not in parameters
        assert all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters.values())
        if name not in {"wait", "follow", "events", "wait_for_processing", "find_matching"}:
            assert set(RequestOptions.__annotations__) <= set(parameters), name
        assert "Flow" not in str(inspect.signature(method).return_annotation)


# These return something at once that is then awaited or iterated.
NOT_AWAITED = {"list", "list_events", "list_rate_limits", "events", "map", "stream"}


@pytest.mark.parametrize("path", NAMESPACES)
def test_async_operations_are_coroutine_functions(path):
    listing = NOT_AWAITED | ({"create", "retrieve"} if path.endswith("permissions") else set())
    for name, method in operations(resource(AsyncClient("k"), path)).items():
        assert inspect.iscoroutinefunction(method) == (name not in listing), name
    for method in operations(resource(Client("k"), path)).values():
        assert not inspect.iscoroutinefunction(method)


@pytest.mark.parametrize("path", ["", *NAMESPACES])
def test_help_describes_each_parameter_in_the_order_of_the_signature(path):
    owner = resource(Client("k"), path) if path else Client("k")
    for name in dir(type(owner)):
        method = getattr(type(owner), name)
        if not hasattr(method, "flow"):
            continue
        parameters = [one for one in inspect.signature(method).parameters if one != "self"]
        assert list(parameter_texts(method)) == parameters, name
        if "extra_headers" in parameters:
            options = list(RequestOptions.__annotations__)
            assert parameters[-len(options) :] == options, name


@pytest.mark.parametrize("path", NAMESPACES)
def test_no_type_variable_is_shown(path):
    for method in operations(resource(AsyncClient("k"), path)).values():
        shown = str(inspect.signature(method))
        for hidden in ("ModeT", "Flow", "Emitting", "Omit", "NotGiven", "Unpack", "'"):
            assert hidden not in re.sub(r"Literal\[.*?\]|'fine-tune'|'24h'", "", shown), shown


def test_help_shows_the_operation():
    text = pydoc.render_doc(Client("k").fine_tuning.jobs, renderer=pydoc.plaintext)
    # From Python 3.13 on long signatures stand on several lines, each after a bar.
    assert "create(self,*,model:str,training_file" in "".join(text.replace("|", "").split())
    assert "Start a fine-tuning job." in text
