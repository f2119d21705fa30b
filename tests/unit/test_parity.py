"""Every operation exists in both modes with the same parameters, and help shows the user's view."""

from __future__ import annotations

import inspect
import pydoc
from typing import Any

import pytest

from tunesmith import AsyncClient, Client
from tunesmith.core.options import RequestOptions
from tunesmith.resources.operations import Resource

NAMESPACES = [
    "files", "uploads", "uploads.parts", "fine_tunes", "fine_tuning.jobs",
    "fine_tuning.jobs.checkpoints", "fine_tuning.checkpoints.permissions",
    "fine_tuning.alpha.graders", "completions", "chat.completions", "chat.completions.messages",
    "models",
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


def test_help_shows_the_operation():
    text = pydoc.render_doc(Client("k").fine_tuning.jobs, renderer=pydoc.plaintext)
    # From Python 3.13 on long signatures stand on several lines, each after a bar.
    assert "create(self,*,model" in "".join(text.replace("|", "").split())
    assert "Start a fine-tuning job." in text
