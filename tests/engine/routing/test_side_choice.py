"""Who answers in the stage "percentage": a share of the users, and always the same ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tunesmith.engine.routing.side_choice import side_of
from tunesmith.engine.store.records import ModelRouteRow

ROUTE = ModelRouteRow("local", "ft:old:acme::a", 0, 0, "ada", "old", "percentage")


def local_users(percentage: float, count: int = 10_000) -> set[str]:
    route = dataclasses.replace(ROUTE, percentage=percentage)
    users = (f"user {number}" for number in range(count))
    return {user for user in users if side_of(route, {"user": user}) == "local"}


@pytest.mark.parametrize("percentage", [0, 0.5, 10, 50, 99, 100])
def test_the_share_is_that_of_the_route(percentage: float):
    share = 100 * len(local_users(percentage)) / 10_000

    assert share == pytest.approx(percentage, abs=1.5)
    assert share > 0 or percentage == 0
    assert share < 100 or percentage == 100


def test_who_has_moved_stays_while_the_percentage_rises():
    shares = [local_users(percentage) for percentage in (1, 5, 25, 100)]

    assert shares[0] < shares[1] < shares[2] < shares[3]


def test_different_names_have_different_users_first():
    other = dataclasses.replace(ROUTE, name="ft:old:acme::b", percentage=10.0)
    users = {f"user {n}" for n in range(1000) if side_of(other, {"user": f"user {n}"}) == "local"}

    assert users != local_users(10, 1000)


@pytest.mark.parametrize(
    ("sticky_by", "same", "different"),
    [
        ("user", {"user": "a", "seed": 2}, {"user": "b"}),
        (
            "conversation",
            {"user": "b", "messages": [{"role": "user", "content": "q"}, {"role": "assistant"}]},
            {"messages": [{"role": "user", "content": "r"}]},
        ),
        (
            "request",
            {"messages": [{"content": "q", "role": "user"}], "user": "a"},
            {"user": "a", "messages": [{"role": "user", "content": "q"}], "seed": 2},
        ),
    ],
)
def test_what_keeps_to_a_side(sticky_by: str, same: dict[str, Any], different: dict[str, Any]):
    first = {"user": "a", "messages": [{"role": "user", "content": "q"}]}
    routes = [
        dataclasses.replace(ROUTE, name=str(number), percentage=50.0, sticky_by=sticky_by)
        for number in range(40)
    ]
    sides = [side_of(route, first) for route in routes]

    assert [side_of(route, same) for route in routes] == sides
    assert [side_of(route, different) for route in routes] != sides


def test_a_request_without_a_user_goes_by_its_conversation():
    route = dataclasses.replace(ROUTE, percentage=50.0)
    question: list[dict[str, Any]] = [{"role": "user", "content": "q"}]
    more = [*question, {"role": "assistant", "content": "a"}]

    assert side_of(route, {"messages": question}) == side_of(route, {"messages": more})


@pytest.mark.parametrize("fields", [{}, {"messages": 1}, {"messages": ["a"]}, {"prompt": [1, 2]}])
def test_any_body_has_a_side(fields: dict[str, Any]):
    assert side_of(dataclasses.replace(ROUTE, percentage=100.0), fields) == "local"
