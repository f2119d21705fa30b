"""What to do after the quickstart: three commands that work as they are printed.

Also finds the engine that runs already. It knows no step of the workflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith._install import quoted

if TYPE_CHECKING:
    from tunesmith.engine.home import Home

    from .prepare import Prepared

__all__ = ["next_steps", "running_engine"]


def running_engine(home: Home) -> str | None:
    """Return the base URL of the engine that runs on a state folder; None if none answers."""
    from tunesmith.engine.server_lock import find_running_server

    server = find_running_server(home)
    return None if server is None else server.url


def next_steps(home: Home, backend: str | None, model: str, prepared: Prepared) -> str:
    """Return three commands, each with what it is for: serve, ask, bring other data.

    Args:
        home: The state folder.
        backend: The base URL of the server that was used; None for the engine on the state folder.
        model: The fine-tuned model.
        prepared: Its files.
    """
    option = _home_option(home)
    url = backend or running_engine(home)
    if backend is not None:
        where = f"-b {quoted(backend)} "
        serve = f"tunesmith {where}api models.list"
        what = "See what the server has:"
    else:
        where = ""
        root = "http://127.0.0.1:8712" if url is None else url.removesuffix("/v1")
        serve = f"tunesmith serve{option}" if url is None else f"tunesmith status{option}"
        begins = "Start the engine" if url is None else "See what the engine has"
        what = f"{begins}; its pages are at {root}/ and {root}/playground:"
    asked = "Ask the model" + ("" if url else ", in another terminal") + ":"
    prompt = prepared.prompt_format.format_prompt("What a lovely day!")
    ask = f"tunesmith {where}api completions.create{'' if where else option}"
    prepare = f"tunesmith tools fine_tunes.prepare_data -f {quoted(str(prepared.source))}"
    return "\n".join(
        (
            f"1. {what}",
            f"     {serve}",
            f"2. {asked}",
            f'     {ask} -m {quoted(model)} -p "{prompt}" -M 1 -t 0',
            "3. Prepare a table of your own in place of this one; it prints how to train on it:",
            f"     {prepare} --prompt tweet --completion sentiment",
        )
    )


def _home_option(home: Home) -> str:
    """Return the option that selects the state folder, where no setting does."""
    from tunesmith.engine.home import Home

    is_default = home.root == Home.from_environment().root
    return "" if is_default else f" --home {quoted(str(home.root))}"
