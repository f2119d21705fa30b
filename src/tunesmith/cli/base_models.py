"""`tunesmith models …`: the base models on this machine, and the names that stand for them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.disk_space import folder_bytes

from .options import (
    add_database_option,
    add_home_option,
    get_home,
    open_database,
    require_engine,
)
from .output import add_json_option, fields, print_error, print_json, print_notice, table
from .parser import add_command, add_group
from .progress_bar import progress_bar

if TYPE_CHECKING:
    import argparse

    from tunesmith.engine.home import Home
    from tunesmith.engine.models.catalog import Catalog
    from tunesmith.engine.models.model_info import BaseModel

    from .parser import Commands

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the group `models`."""
    group = add_group(commands, "models", "Get, list and name base models on this machine")
    _register_reading(group)
    _register_changing(group)


def _register_reading(group: Commands) -> None:
    listing = add_command(
        group,
        "list",
        _list,
        "List base models, what fits this machine, and the names that select them",
        "tunesmith models list",
    )
    listing.add_argument(
        "--installed", action="store_true", help="only those that are on this machine"
    )
    show = add_command(
        group,
        "show",
        _show,
        "Show what is known of a base model, and the memory that it needs",
        "tunesmith models show qwen3-4b",
    )
    show.add_argument("name", metavar="NAME", help="an id, a name, or a hub id")
    usage = add_command(
        group,
        "du",
        _usage,
        "Show the disk space of each base model on this machine",
        "tunesmith models du",
    )
    verify = add_command(
        group,
        "verify",
        _verify,
        "Compare the files of base models with the hashes of what was pulled",
        "tunesmith models verify\ntunesmith models verify qwen3-4b",
    )
    verify.add_argument(
        "name", metavar="NAME", nargs="*", help="an id from `models list`; all without one"
    )
    for parser in (listing, show, usage, verify):
        add_json_option(parser)
        add_home_option(parser)


def _register_changing(group: Commands) -> None:
    pull = add_command(
        group,
        "pull",
        _pull,
        "Download a base model, once",
        "tunesmith models pull smollm2-135m-instruct",
    )
    pull.add_argument(
        "name",
        metavar="NAME",
        help="an id or a name from `models list`, or a hub id (organisation/model)",
    )
    pull.add_argument(
        "--newest",
        action="store_true",
        help="take the repository as it is now, not the commit of its first pull",
    )
    add = add_command(
        group,
        "add",
        _add,
        "Add a base model of your own: a folder, or a repository of the hub",
        "tunesmith models add ./my-model --as mine\n"
        "tunesmith models add acme/house-model --as house",
    )
    add.add_argument("source", metavar="PATH|ID", help="a folder with safetensors, or a hub id")
    add.add_argument("--as", dest="name", required=True, metavar="NAME", help="its id here")
    use = add_command(
        group,
        "use",
        _use,
        "Let a name of the hosted service stand for a base model",
        "tunesmith models use gpt-4o-mini=qwen3-4b",
    )
    use.add_argument("pairs", metavar="NAME=BASE", nargs="+", help="the name and the base model")
    remove = add_command(
        group,
        "remove",
        _remove,
        "Remove a base model's files, and its entry in your table",
        "tunesmith models remove qwen3-4b",
    )
    remove.add_argument("name", metavar="NAME", help="an id from `models list`")
    add_database_option(remove)
    for parser in (pull, add, use, remove):
        add_home_option(parser)


def _pull(arguments: argparse.Namespace) -> int:
    require_engine("Pulling models")
    home = get_home(arguments)
    from tunesmith.engine.models.pull import pull

    with progress_bar() as report:
        model = pull(arguments.name, home, report, newest=arguments.newest)
    print(f"{model.id} is ready in {model.path}")
    try:
        from tunesmith.engine.jobs.model_proof import prove

        verdict = prove(home, model.path)
    except ImportError:  # without PyTorch it can be pulled, and be proven later
        return 0
    if verdict is not None and verdict.refused is not None:
        print_error(f"{model.id} can be neither trained nor served: {verdict.refused}.")
        return 1
    if verdict is not None:
        reason = f" ({verdict.reason})" if verdict.reason else ""
        print(
            f"It trains by the {verdict.training} path and is served by the {verdict.serving} one"
            f"{reason}."
        )
    return 0


def _list(arguments: argparse.Namespace) -> int:
    catalog = _catalog(get_home(arguments))
    names = catalog.names_by_base()
    bases = [base for base in catalog.bases() if base.installed or not arguments.installed]
    bases.sort(key=lambda base: (not base.installed, base.facts.parameters or 0, base.id))
    if arguments.json:
        print_json([_as_json(base, names) for base in bases])
        return 0
    device, memory = _this_machine()
    header = ("id", "installed", "parameters", "licence", "context", "tools", "thinks", "fits")
    rows = [
        (
            base.id,
            "yes" if base.installed else "no",
            _billions(base.facts.parameters),
            f"{base.license or '-'}{' (gated)' if base.facts.gated else ''}",
            "-" if base.facts.context is None else f"{base.facts.context // 1024}k",
            {True: "yes", False: "no", None: "-"}[base.facts.tools],
            base.facts.thinks or "-",
            ", ".join(_fitting(base, memory)) or "-",
        )
        for base in bases
    ]
    print(table(header, rows))
    print(
        f"\nfits: what {device} has the memory for ({memory / 1e9:.0f} GB), estimated from the "
        "number of parameters; on a processor, large models are slow."
    )
    for base_id, selecting in names.items():
        print(f"\nThese names select {base_id}: {', '.join(selecting)}.")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    catalog = _catalog(get_home(arguments))
    base = catalog.find(arguments.name)
    values = _as_json(base, catalog.names_by_base())
    if arguments.json:
        print_json(values)
        return 0
    memory = values.pop("memory")
    print(fields(values))
    for use, needed in (memory or {}).items():
        print(f"memory for {use}: {needed / 1e9:.1f} GB")
    if not base.installed and base.hub_id:
        print_notice(f"Get it with: tunesmith models pull {base.id}")
    return 0


def _usage(arguments: argparse.Namespace) -> int:
    sizes = {
        base.id: (folder_bytes(base.path), str(base.path))
        for base in _catalog(get_home(arguments)).bases()
        if base.installed
    }
    if arguments.json:
        print_json(
            [{"id": name, "bytes": size, "path": path} for name, (size, path) in sizes.items()]
        )
        return 0
    rows = [(name, f"{size / 1e9:.2f} GB", path) for name, (size, path) in sizes.items()]
    print(table(("id", "size", "folder"), rows))
    print(f"\n{sum(size for size, _ in sizes.values()) / 1e9:.2f} GB in all.")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    catalog = _catalog(get_home(arguments))
    from tunesmith.engine.models.model_pins import changed_files, not_as_pulled, origin_of

    named = [catalog.resolve(name) for name in arguments.name]
    results: list[dict[str, Any]] = []
    for base in named or [one for one in catalog.bases() if one.installed]:
        origin = origin_of(base.path)
        files = origin.get("files")
        changed = changed_files(base.path)
        results.append(
            {
                "id": base.id,
                "revision": origin.get("revision"),
                "files": len(files) if isinstance(files, dict) else 0,
                "changed": changed,
            }
        )
        if arguments.json:
            continue
        if changed:
            print_error(f"{base.id}: {not_as_pulled(changed)}.")
        elif results[-1]["files"]:
            commit = f" from commit {origin['revision']}" if "revision" in origin else ""
            print(f"{base.id}: {results[-1]['files']} files are as they were pulled{commit}.")
        else:
            print(f"{base.id}: not pulled, or by a version that kept no hashes.")
    if arguments.json:
        print_json(results)
    elif not results:
        print("No base model is on this machine.")
    return 1 if any(one["changed"] for one in results) else 0


def _add(arguments: argparse.Namespace) -> int:
    home = get_home(arguments)
    _catalog(home)
    from tunesmith.engine.models.model_errors import CatalogError
    from tunesmith.engine.models.table_edit import add_base

    folder = Path(arguments.source).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise CatalogError(f"{folder} has no config.json, so it is not a model's folder.")
        add_base(home, arguments.name, path=folder.absolute())
    else:
        add_base(home, arguments.name, hub=arguments.source)
        print_notice(f"Get it with: tunesmith models pull {arguments.name}")
    print(f"{arguments.name} is in {home.base_model_table}")
    return 0


def _use(arguments: argparse.Namespace) -> int:
    home = get_home(arguments)
    _catalog(home)
    from tunesmith.engine.models.model_errors import CatalogError
    from tunesmith.engine.models.table_edit import use_for_name

    pairs = [pair.partition("=") for pair in arguments.pairs]
    if wrong := next((name for name, _, base in pairs if not name or not base), None):
        raise CatalogError(f"{wrong!r} is no pair. Write NAME=BASE, gpt-4o-mini=qwen3-4b.")
    for name, _, base in pairs:
        use_for_name(home, name, base)
        print(f"{name} is {_catalog(home).find(name).id} from now on")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    with open_database(arguments) as (home, database):
        from tunesmith.engine.models.model_errors import CatalogError
        from tunesmith.engine.models.table_edit import remove_base
        from tunesmith.engine.store import model_queries

        base = _catalog(home).find(arguments.name)
        with database.read() as connection:
            dependent = model_queries.names_on_base(connection, base.id)
        if dependent:
            raise CatalogError(
                f"{base.id} is the base of {', '.join(dependent[:3])}"
                f"{f' and {len(dependent) - 3} more' if len(dependent) > 3 else ''}. "  # noqa: PLR2004
                "Delete these first, or export them with --with-base."
            )
        in_table = remove_base(home, base.id)
    freed = 0
    if base.installed and base.path.parent == home.base_models:
        freed = folder_bytes(base.path)
        shutil.rmtree(base.path)
    elif base.installed:
        print_notice(f"The folder {base.path} is yours and stays.")
    if not freed and not in_table:
        raise CatalogError(f"{base.id} is not on this machine: there is nothing to remove.")
    print(f"{base.id} is removed{f'; {freed / 1e9:.2f} GB are free again' if freed else ''}")
    return 0


def _catalog(home: Home) -> Catalog:
    require_engine("The table of base models")
    from tunesmith.engine.models.catalog import load_catalog

    return load_catalog(home)


def _as_json(base: BaseModel, names: dict[str, list[str]]) -> dict[str, Any]:
    from tunesmith.engine.models.memory_table import USES, memory_needed
    from tunesmith.engine.models.model_pins import commit_of

    parameters = base.facts.parameters
    return {
        "id": base.id,
        "hub_id": base.hub_id,
        "revision": commit_of(base),
        "installed": base.installed,
        "path": str(base.path),
        **base.facts.model_dump(),
        "names": names.get(base.id, []),
        "memory": None
        if parameters is None
        else {use: memory_needed(parameters, use) for use in USES},
    }


def _this_machine() -> tuple[str, int]:
    from tunesmith.engine.models.memory_table import memory_of_this_machine

    name, memory = memory_of_this_machine()
    return ("this machine" if name == "processor" else name), memory


def _fitting(base: BaseModel, memory: int) -> list[str]:
    from tunesmith.engine.models.memory_table import USES, memory_needed

    parameters = base.facts.parameters
    return (
        []
        if parameters is None
        else [use for use in USES if memory_needed(parameters, use) <= memory]
    )


def _billions(parameters: int | None) -> str:
    return "-" if parameters is None else f"{parameters / 1e9:.2g}B"
