"""A board on this machine: the test's own OpenSSH server on the loopback interface, with a temporary home folder."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Loopback:
    """url and options: for open_board. home: of the other side. log: the server's output."""

    url: str
    options: dict[str, object]
    home: Path
    log: Path

    @property
    def begun_there(self) -> str:
        """A pattern that matches the commands of processes started on the other side, and no others."""
        return f"{self.home.parent}/a home"

    @property
    def kept(self) -> Path:
        return self.home / ".cache" / "edgetl-bench"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=20)
    return path


@pytest.fixture(scope="session")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("OpenSSH's server and client are not both installed (apt: openssh-server openssh-client)")
    folder = tmp_path_factory.mktemp("sshd")
    home = folder / 'a home\'s "folder" & $more'
    home.mkdir()
    user, port = _key(folder / "user"), _free_port()
    host = _key(folder / "host")
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nPidFile {folder / 'pid'}\nUsePAM no\nStrictModes no\n"
        f"PasswordAuthentication no\nAuthorizedKeysFile {user}.pub\nPermitRootLogin prohibit-password\n"
        f'SetEnv "HOME={str(home).replace(chr(34), chr(92) + chr(34))}"\n'
    )
    if os.getuid() == 0:
        # An init system creates this folder when it starts the service.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (folder / "known").write_text(f"[127.0.0.1]:{port} {Path(f'{host}.pub').read_text()}")
    client = folder / "ssh_config"
    client.write_text(f"UserKnownHostsFile {folder / 'known'}\nStrictHostKeyChecking yes\nIdentitiesOnly yes\n")
    log = folder / "log"
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log.open("wb"), stdin=subprocess.DEVNULL)
    try:
        _wait_for(port, server, log)
        options = {"identity": user, "config": client, "python": sys.executable}
        yield Loopback(f"ssh://{getpass.getuser()}@127.0.0.1:{port}", options, home, log)
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.skip(f"sshd does not start here: {log.read_text()[-300:]}")
