"""What the tests of tables share: processes that start quickly, and a real Postgres server with a database for each test."""

import multiprocessing
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

PASSWORD = "p@ss/w%rd"  # noqa: S105  of a server that lives as long as the tests; has what a URL must escape


def programs() -> Path | None:
    """Return the folder of Postgres' programs, the newest version if there are several."""
    found = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    named = shutil.which("initdb")
    return found[-1] if found else Path(named).parent if named else None


def install() -> None:
    """Install Postgres from Debian, which only the administrator may."""
    for step in (["update"], ["install", "--yes", "--no-install-recommends", "postgresql"]):
        subprocess.run(["apt-get", *step], check=False, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


@pytest.fixture(scope="session")
def postgres() -> Iterator[int]:
    """Start a Postgres server in a new folder; gives its port."""
    if programs() is None and os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        install()
    folder = programs()
    if folder is None and os.environ.get("CI"):
        pytest.fail("there is no Postgres, and it could not be installed; CI needs the package postgresql")
    if folder is None:
        pytest.skip("there is no Postgres: install the package postgresql to run the tests of its catalog")
    # it refuses to run as root, and cannot look into pytest's own folders then
    user = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else os.geteuid()
    data = Path(tempfile.mkdtemp(prefix="mimic-postgres-"))
    secret = data / "password"
    secret.write_text(PASSWORD)
    for path in (data, secret):
        os.chown(path, user, -1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(program: str, *arguments: str) -> None:
        command = [folder / program, "-D", data / "cluster", *arguments]
        subprocess.run(command, check=True, user=user, cwd=data, stdout=subprocess.DEVNULL)

    call("initdb", "-U", "mimic", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync", "-E", "UTF8", "--locale=C")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    call("pg_ctl", "-w", "-l", str(data / "log"), "-o", options, "start")
    yield port
    call("pg_ctl", "-w", "-m", "immediate", "stop")
    shutil.rmtree(data)


@pytest.fixture
def database(postgres: int) -> Iterator[Callable[[], str]]:
    """Give what makes an empty database and returns its URL, without a driver's name."""
    from sqlalchemy import URL

    psycopg2 = __import__("psycopg2") if os.environ.get("CI") else pytest.importorskip("psycopg2")

    server = psycopg2.connect(host="127.0.0.1", port=postgres, user="mimic", password=PASSWORD, dbname="postgres")
    server.autocommit = True

    def made() -> str:
        name = f"catalog_{uuid.uuid4().hex}"
        with server.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        url = URL.create("postgresql", "mimic", PASSWORD, "127.0.0.1", postgres, name)
        return url.render_as_string(hide_password=False)

    yield made
    server.close()


SLOW_IMPORTS = ["resources.environments", "pyiceberg.catalog.sql", "pyiceberg.io.pyarrow", "sqlalchemy.dialects.sqlite"]


@pytest.fixture(scope="session")
def processes() -> BaseContext:
    """Give the context in which a process starts within milliseconds; a spawned one imports for more than a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SLOW_IMPORTS)
    return context


collect_ignore = ["full_disk.py"]  # a script that fills a disk
