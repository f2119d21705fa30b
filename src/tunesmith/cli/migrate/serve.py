"""`migrate serve`: an old name answers at home; `migrate upstream`: the service it had before."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from tunesmith.cli.api.call import add_call
from tunesmith.cli.options import add_home_option, get_home, require_engine
from tunesmith.cli.output import fields, local_time, print_json, print_notice, table
from tunesmith.cli.parser import add_command
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from tunesmith.cli.parser import Commands
    from tunesmith.client import Client

__all__ = ["register"]

_STAGES = ("upstream", "mirror", "percentage", "local")
_EXAMPLES = """\
tunesmith migrate serve ft:gpt-4o-mini-2024-07-18:acme::AbC123 --to ft:smollm2:local::x1 \\
    --upstream openai --stage mirror
tunesmith migrate serve ft:gpt-4o-mini-2024-07-18:acme::AbC123 --stage percentage=10
tunesmith migrate serve ft:gpt-4o-mini-2024-07-18:acme::AbC123 --stage local
tunesmith migrate serve --list"""


def register(group: Commands) -> None:
    """Add the commands."""
    serve = add_call(
        group, "serve", _serve, "Set which model or service answers under an old name", _EXAMPLES
    )
    serve.add_argument("name", metavar="NAME", nargs="?", help="the old name, exactly")
    serve.add_argument("--to", metavar="MODEL", help="the engine's model behind the name")
    serve.add_argument("--upstream", metavar="SERVICE", help="the old service, see `upstream`")
    serve.add_argument(
        "--stage",
        type=_stage,
        metavar="STAGE",
        help="who answers: upstream, mirror (the old service; the new model is asked beside and "
        "compared), percentage=N (the new model for N %% of the users), local",
    )
    serve.add_argument(
        "--sticky-by",
        choices=("user", "conversation", "request"),
        help="what keeps to one side in the stage percentage (default: user)",
    )
    serve.add_argument(
        "--fallback",
        action=argparse.BooleanOptionalAction,
        help="whether the other side answers when one fails (default: yes)",
    )
    serve.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="how long a side may take until its answer begins (default: 120)",
    )
    serve.add_argument(
        "--keep-contents",
        action=argparse.BooleanOptionalAction,
        help="whether requests and answers are kept with the decisions (default: no)",
    )
    what = serve.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show all names")
    what.add_argument(
        "--decisions", action="store_true", help="show how the last requests were answered"
    )
    what.add_argument("--delete", action="store_true", help="delete the name")

    upstream = add_command(
        group,
        "upstream",
        _upstream,
        "Save the address of an old service, and its key from an environment variable",
        "tunesmith migrate upstream openai --url https://api.openai.com/v1 "
        "--key-from OPENAI_API_KEY",
    )
    upstream.add_argument("name", metavar="SERVICE", help="its name in routes")
    upstream.add_argument("--url", required=True, help="its base URL, or Azure's endpoint")
    upstream.add_argument(
        "--key-from",
        default="OPENAI_API_KEY",
        metavar="VARIABLE",
        help="the environment variable that holds the key (default: OPENAI_API_KEY)",
    )
    upstream.add_argument("--kind", choices=("openai", "azure"), default="openai")
    upstream.add_argument(
        "--api-version", help="Azure's, for addresses with the deployment in the path"
    )
    upstream.add_argument("--project", help="sent as OpenAI-Project")
    upstream.add_argument("--organization", help="sent as OpenAI-Organization")
    add_home_option(upstream)


def _stage(text: str) -> dict[str, Any]:
    stage, separator, share = text.partition("=")
    if stage not in _STAGES or bool(separator) != (stage == "percentage"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no stage: use upstream, mirror, percentage=N or local"
        )
    if not separator:
        return {"stage": stage}
    try:
        return {"stage": stage, "percentage": float(share.removesuffix("%"))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{share!r} is no percentage") from None


def _serve(client: Client, arguments: argparse.Namespace) -> int:
    if arguments.list:
        return _list(client, arguments)
    name = arguments.name
    if name is None:
        raise TunesmithError("Which name? `tunesmith migrate serve --list` shows all of them.")
    if arguments.decisions:
        return _decisions(client, arguments)
    if arguments.delete:
        client.model_routes.delete(name)
        print_notice(f"{name} leads nowhere any more.")
        return 0
    changes = {
        "target": arguments.to,
        "upstream": arguments.upstream,
        "sticky_by": arguments.sticky_by,
        "fallback": arguments.fallback,
        "timeout_seconds": arguments.timeout,
        "keep_contents": arguments.keep_contents,
        **(arguments.stage or {}),
    }
    changes = {field: value for field, value in changes.items() if value is not None}
    if changes:
        route = client.model_routes.set(name, **changes)
    else:
        route = client.model_routes.retrieve(name)
    if arguments.json:
        print_json(route.to_dict())
    else:
        print(fields(route.to_dict()))
    return 0


def _list(client: Client, arguments: argparse.Namespace) -> int:
    routes = list(client.model_routes.list())
    if arguments.json:
        print_json([route.to_dict() for route in routes])
        return 0
    if not routes:
        print("No names. `tunesmith migrate serve NAME --to MODEL` adds one.")
        return 0
    rows: list[tuple[object, ...]] = []
    for route in routes:
        points = list(client.model_routes.curves(route.id, hours=24))
        compared = sum(point.compared for point in points)
        same = sum(point.same_normalized for point in points)
        rows.append(
            (
                route.id,
                f"{route.stage} {route.percentage:g} %"
                if route.stage == "percentage"
                else route.stage,
                route.target or "-",
                route.upstream or "-",
                sum(point.requests for point in points),
                f"{100 * same / compared:.1f} % of {compared}" if compared else "-",
            )
        )
    header = ("name", "stage", "model", "old service", "requests in 24 h", "agreement")
    print(table(header, rows))
    return 0


def _decisions(client: Client, arguments: argparse.Namespace) -> int:
    found = client.model_routes.list_decisions(arguments.name, limit=20).data
    if arguments.json:
        print_json([one.to_dict() for one in found])
        return 0
    rows = (
        (
            local_time(int(one.created_at)),
            one.stage,
            one.side + (", instead" if one.fallback else ""),
            "-" if one.upstream is None else one.upstream.status,
            "-" if one.local is None else one.local.status,
            _agreement(one),
        )
        for one in found
    )
    print(table(("time", "stage", "answered by", "old", "new", "both answers"), rows))
    return 0


def _agreement(decision: Any) -> str:
    if decision.agreement is None:
        return decision.mirror or "-"
    if decision.agreement.text:
        return "equal"
    return "equal but for spaces and case" if decision.agreement.normalized else "different"


def _upstream(arguments: argparse.Namespace) -> int:
    require_engine()
    from tunesmith.engine.config import UpstreamConfig
    from tunesmith.engine.routing.upstreams import save_upstream

    key = os.environ.get(arguments.key_from)
    if not key:
        raise TunesmithError(
            f"The environment variable {arguments.key_from} is not set. It has to hold the key; a "
            "key on the command line would be seen by every user of this machine."
        )
    home = get_home(arguments)
    home.make_private()
    upstream = UpstreamConfig(
        url=arguments.url,
        api_key=key,
        kind=arguments.kind,
        api_version=arguments.api_version,
        organization=arguments.organization,
        project=arguments.project,
    )
    save_upstream(home.upstreams, arguments.name, upstream)
    print(
        f"Saved {arguments.name} in {home.upstreams}, which only you may read. An engine that is "
        "running knows it from now on.",
        file=sys.stderr,
    )
    return 0
