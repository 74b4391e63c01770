"""A PostgreSQL server on a free port of the loopback, for the length of a test."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

INSTALL = "ABLATE_INSTALL_POSTGRES"  # set to 1 it allows apt-get, where root asks for it


def programs() -> Path:
    """The folder of initdb and postgres; installs Debian's package where it may, else skips with the reason."""
    if (found := _found()) is None and os.environ.get(INSTALL) == "1" and os.geteuid() == 0 and shutil.which("apt-get"):
        for words in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
            subprocess.run(
                ["apt-get", *words],
                check=False,
                capture_output=True,
                timeout=600,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
        found = _found()
    if found is None:
        pytest.skip(f"no PostgreSQL server here; install Debian's postgresql, or set {INSTALL}=1 as root")
    return found


def _found() -> Path | None:
    on_path = shutil.which("initdb")
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(on_path).resolve().parent if on_path else packaged[-1].parent if packaged else None


@contextmanager
def server() -> Iterator[str]:
    """Its URL. As root the server runs as `postgres` or `nobody`, since it refuses root."""
    import psycopg2

    binaries, home = programs(), Path(tempfile.mkdtemp(prefix="ablate-postgres-"))
    user = {}
    if os.geteuid() == 0:
        import pwd

        account = next(entry for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody"))
        os.chown(home, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, url = str(home / "data"), f"postgresql://ablate:secret@127.0.0.1:{port}/postgres"
    common = {"cwd": home, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **user}
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "ablate", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"],
        check=True,
        **common,
    )
    process = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", data, "-F"], **common
    )
    try:
        for _ in range(300):
            try:
                psycopg2.connect(url).close()
                break
            except psycopg2.OperationalError:
                assert process.poll() is None, "the server has ended"
                time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # disconnects its clients; SIGTERM would wait for them
        process.wait(60)
        shutil.rmtree(home, ignore_errors=True)
