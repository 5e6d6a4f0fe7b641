"""The checks before the start: each failure is one line that names what to change."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.errors import ConfigError
from songhua import preflight


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def test_a_taken_port_is_named_with_its_holder_and_the_setting(listener: socket.socket) -> None:
    with pytest.raises(ConfigError) as failure:
        preflight.check_port("127.0.0.1", port_of(listener), "api_port")
    line = str(failure.value)
    assert f"127.0.0.1:{port_of(listener)}" in line
    assert f"process {os.getpid()}" in line
    assert "SONGHUA_API_PORT" in line


def test_a_free_port_passes(listener: socket.socket) -> None:
    port = port_of(listener)
    listener.close()
    preflight.check_port("127.0.0.1", port, "api_port")


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match="SONGHUA_API_PORT"):
        preflight.check_port("192.0.2.1", 8080, "api_port")


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=r"SONGHUA_VAR: cannot write in .*file/var"), preflight.claim(file / "var"):
        raise AssertionError("the claim must fail")


def test_a_directory_in_use_names_the_process_and_is_free_again_afterwards(tmp_path: Path) -> None:
    with (
        preflight.claim(tmp_path),
        pytest.raises(ConfigError, match=f"in use by another `songhua up` \\(process {os.getpid()}\\)"),
        preflight.claim(tmp_path),
    ):
        raise AssertionError("the second claim must fail")
    with preflight.claim(tmp_path):
        pass


def test_a_broker_that_answers_passes_without_a_word(listener: socket.socket) -> None:
    said: list[str] = []
    preflight.check_broker(f"mqtt://user:secret@127.0.0.1:{port_of(listener)}", said.append)
    assert said == []


def test_a_broker_that_does_not_answer_is_waited_for_and_then_refused(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "BROKER_PATIENCE", 0.3)
    port = port_of(listener)
    listener.close()
    said: list[str] = []
    with pytest.raises(ConfigError) as failure:
        preflight.check_broker(f"mqtt://user:secret@127.0.0.1:{port}", said.append)
    assert len(said) == 1 and f"127.0.0.1:{port}" in said[0]
    assert "SONGHUA_BROKER_URL" in str(failure.value)
    assert "secret" not in str(failure.value)
