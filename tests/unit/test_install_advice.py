"""What the errors say on installing is what this copy and this environment understand."""

import importlib.metadata
import json
import shlex
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tunesmith import _install


@pytest.fixture
def without_pip(monkeypatch):
    find_spec = _install.find_spec
    monkeypatch.setattr(
        _install, "find_spec", lambda name: None if name == "pip" else find_spec(name)
    )


@pytest.fixture
def installed_from(monkeypatch):
    """Let this copy have been installed from some place: the content of its direct_url.json."""

    def from_there(origin):
        text = None if origin is None else json.dumps(origin)
        monkeypatch.setattr(
            importlib.metadata, "distribution", lambda _: SimpleNamespace(read_text=lambda _: text)
        )

    return from_there


def test_a_package_of_the_index(installed_from, without_pip):
    installed_from(None)
    where = _install.quoted(sys.executable)
    assert _install.install_extra("ray") == (f'uv pip install --python {where} "tunesmith[ray]"')


def test_a_clone_in_place_and_not(installed_from, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    installed_from({"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    assert _install.install_extra("ray").endswith(' -e ".[ray]"')
    installed_from({"url": tmp_path.as_uri(), "dir_info": {}})
    command = _install.install_extra("ray")
    assert command.endswith(' ".[ray]"')
    assert " -e " not in command


def test_a_repository(installed_from):
    installed_from({"url": "https://example.org/t.git", "vcs_info": {"vcs": "git"}})
    assert _install.install_extra("ray").endswith(
        ' "tunesmith[ray] @ git+https://example.org/t.git"'
    )


@pytest.mark.parametrize("program", ["pip", "uv"])
def test_the_program_takes_the_command(program, monkeypatch, request):
    if program == "uv":
        request.getfixturevalue("without_pip")
        if shutil.which("uv") is None:
            pytest.skip("uv is not installed")
    elif _install.find_spec("pip") is None:
        pytest.skip("pip is not installed")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    command = _install.install_command("tunesmith-of-no-index")
    tried = subprocess.run(
        [*shlex.split(command), "--dry-run"], capture_output=True, text=True, check=False
    )
    assert tried.returncode == 1, tried.stderr  # 2 would be a command that it does not know
    assert "tunesmith-of-no-index" in tried.stderr
