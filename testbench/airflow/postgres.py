"""PostgreSQL for the bench's Airflow: Debian's server, unprivileged, on loopback, data in the bench's folder.

The package's own cluster and service are never created or touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from testbench import config
from testbench.airflow.settings import HOST, POSTGRES_PORT, Paths, Secrets
from testbench.process import Processes

NAME = "postgres"
_BINARIES = Path("/usr/lib/postgresql/15/bin")
_NOBODY = 65534
_SETTINGS = {
    "listen_addresses": HOST,
    "port": str(POSTGRES_PORT),
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    # A bench's history may be lost with the machine; its Airflow should not wait for the disk.
    "fsync": "off",
    # The scheduler's queries on tables that nobody analyzed look expensive, and each was compiled anew: a third of a
    # core while nothing runs.
    "jit": "off",
}
# The server refuses root. As `nobody` it must still reach its data when the checkout lies below a folder
# that only root may enter, so it keeps the one capability to pass through (never to write).
_DEMOTE = (
    "setpriv",
    f"--reuid={_NOBODY}",
    f"--regid={_NOBODY}",
    "--clear-groups",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=+dac_read_search",
    "--bounding-set=-all,+dac_read_search",
    "--no-new-privs",
)


def start(processes: Processes, paths: Paths, secrets: Secrets) -> None:
    """Starts the server, making its data folder first where there is none.

    Raises:
        RuntimeError: it ended or did not answer within 30 s; its log's last lines are in the message.
    """
    if not (paths.postgres / "PG_VERSION").exists():
        _create(paths, secrets)
    settings = [part for key, value in _SETTINGS.items() for part in ("-c", f"{key}={value}")]
    argv = [str(_BINARIES / "postgres"), "-D", str(paths.postgres), *settings]
    processes.start(NAME, argv, env={"LC_ALL": "C.UTF-8"}, cwd=Path("/"), prefix=_DEMOTE)
    _wait(processes, secrets)
    if _psql(secrets, "select 1 from pg_database where datname = 'airflow'", database="postgres") != "1":
        _psql(secrets, "create database airflow", database="postgres")


def stop(processes: Processes) -> None:
    """Fast shutdown: open connections are cut, nothing is lost."""
    processes.signal(NAME, signal.SIGINT)
    processes.end(NAME, grace_s=15)


def _create(paths: Paths, secrets: Secrets) -> None:
    """Whole or not at all: built beside its place and renamed."""
    draft = paths.postgres.with_suffix(".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=0o700)
    os.chown(draft, _NOBODY, _NOBODY)
    password = paths.base / "pg.password"
    password.touch(mode=0o600)
    password.write_text(secrets.database)
    os.chown(password, _NOBODY, _NOBODY)
    argv = [*_DEMOTE, str(_BINARIES / "initdb"), "-D", str(draft), "-U", "airflow", "--no-sync"]
    argv += ["-A", "scram-sha-256", f"--pwfile={password}", "--locale=C.UTF-8", "--encoding=UTF8"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, cwd="/", check=False)
    finally:
        password.unlink()
    if done.returncode:
        raise RuntimeError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
    draft.replace(paths.postgres)


def _wait(processes: Processes, secrets: Secrets) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not processes.running(NAME):
            break
        if _psql(secrets, "select 1", database="postgres") == "1":
            return
        time.sleep(0.1)
    log = (config.LOGS / f"{NAME}.log").read_text(errors="replace").splitlines()[-5:]
    raise RuntimeError(
        f"PostgreSQL does not answer on {HOST}:{POSTGRES_PORT}. Its log ends: " + " | ".join(log)
    )


def _psql(secrets: Secrets, statement: str, *, database: str) -> str | None:
    """First column of the answer, or None when the server is not there."""
    argv = [str(_BINARIES / "psql"), "-h", HOST, "-p", str(POSTGRES_PORT), "-U", "airflow", "-d", database]
    env = {"PGPASSWORD": secrets.database, "PGCONNECT_TIMEOUT": "3", "PATH": os.environ["PATH"]}
    done = subprocess.run([*argv, "-tAc", statement], capture_output=True, text=True, env=env, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
