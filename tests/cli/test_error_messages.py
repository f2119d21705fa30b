"""What can go wrong around the engine: each one paragraph with the way out, no traceback."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple

import pytest

from tunesmith.cli import main


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command line in this process; return its exit code, stdout and stderr."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def command(line):
        code = main(shlex.split(line))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def serve(tmp_path, shared_tiny_home):
    """Start `tunesmith serve` as a user does; stop it at the end."""
    started = []

    def start(*options, home="home"):
        folder = tmp_path / home
        folder.mkdir(exist_ok=True)
        table = folder / "models.toml"
        table.write_text(shared_tiny_home.base_model_table.read_text())
        process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith.cli", "serve", "--home", str(folder), *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=300)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server does not listen")


def one_paragraph(err, *parts):
    assert err.startswith("Error: ")
    assert "Traceback" not in err
    assert "\n\n" not in err.strip()
    text = " ".join(err.split())
    for part in parts:
        assert part in text
    return True


def test_a_port_in_use_and_an_address_without_keys(serve):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = serve("--port", str(holder.getsockname()[1]))
        _, err = taken.communicate(timeout=300)
    assert taken.returncode == 1
    assert one_paragraph(err, str(holder and taken.args[-1]), "--port")
    open_to_all = serve("--host", "0.0.0.0", "--port", "0")  # noqa: S104 - it must be refused
    _, err = open_to_all.communicate(timeout=300)
    assert open_to_all.returncode == 1
    assert one_paragraph(err, "tunesmith keys create")


@pytest.mark.parametrize("named", [None, ""])
def test_keys_refuses_to_guess_the_engine(run, tmp_path, monkeypatch, named):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TUNESMITH_HOME", raising=False)
    if named is not None:
        monkeypatch.setenv("TUNESMITH_HOME", named)
    code, key, err = run("keys create")
    assert (code, key) == (1, "")
    assert one_paragraph(err, "--home")
    assert list(tmp_path.iterdir()) == []


def test_keys_from_creation_to_revocation(serve, run, free_port, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_BASE_URL", f"http://127.0.0.1:{free_port}/v1")
    monkeypatch.delenv("TUNESMITH_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    home = f"--home {shlex.quote(str(tmp_path / 'home'))}"
    server = serve("--port", str(free_port))
    wait_for(free_port)
    assert run("api models.list")[0] == 0  # no key exists: any will do

    code, key, said = run(f"keys create --name laptop --role owner {home}")
    key = key.strip()
    assert code == 0
    assert key.startswith("sk-")
    assert key not in said
    listed = run(f"keys list {home}")[1]
    assert "laptop" in listed
    assert key not in listed

    time.sleep(1.2)  # servers look at the keys once a second
    for wrong in ("", "--api-key sk-wrong"):
        code, _, err = run(f"api models.list {wrong}")
        assert code == 1
        assert one_paragraph(err, "key")
        assert "sk-wrong" not in err
    assert run(f"api models.list --api-key {key}")[0] == 0

    key_id = listed.splitlines()[1].split()[0]
    assert run(f"keys revoke {key_id} {home}")[0] == 0
    assert one_paragraph(run(f"keys revoke {key_id} {home}")[2], key_id)
    assert "revoked" in run(f"keys list {home}")[1]

    again = serve("--port", "0")
    _, err = again.communicate(timeout=300)
    assert again.returncode == 1
    assert one_paragraph(err, str(server.pid), "--home")
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=300)
    assert server.returncode == 0


def test_no_disk_space_for_the_model(run, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil returns it
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    code, _, err = run(f"models pull ada --home '{tmp_path}'")
    assert code == 1
    last = err[err.rindex("Error: ") :]
    assert one_paragraph(last, "disk space", "TUNESMITH_HOME")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("models pull nothing", "smollm2-135m-instruct"),
        ("keys revoke key-nothing", "key-nothing"),
        ("keys create --org Not/A/Name", "Not/A/Name"),
    ],
)
def test_other_errors_name_the_way_out(run, tmp_path, line, message):
    code, _, err = run(f"{line} --home '{tmp_path}'")
    assert code == 1
    assert one_paragraph(err, message)


def test_a_home_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run(f"keys list --home {shlex.quote(str(tmp_path / 'file' / 'home'))}")
    assert code == 1
    assert one_paragraph(err, "file")


def test_models_are_listed_with_the_names_that_lead_to_them(run, shared_tiny_home):
    code, out, _ = run(f"models list --home '{shared_tiny_home.root}'")
    assert code == 0
    assert "ada, babbage" in out
    assert os.linesep in out


@pytest.mark.parametrize(
    ("content", "said"),
    [("text,label\nGood,yes\n", "prepare_data -f data.csv"), ("\ufeff \n", "is empty")],
)
def test_what_is_no_json_lines_is_not_uploaded(content, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text(content, encoding="utf-8")
    assert main(["api", "fine_tunes.create", "-t", "data.csv"]) == 1
    assert said in " ".join(capsys.readouterr().err.split())
