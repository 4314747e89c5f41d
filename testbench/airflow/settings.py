"""Where the bench's Airflow keeps things, and the environment that its processes run in.

No process is started here and nothing is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testbench import config

HOST = "127.0.0.1"
PORT = 8480
POSTGRES_PORT = 55433
CONNECTION = "llm_release_demo"
USERS = {"alice": "admin", "bob": "viewer"}
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_DROPPED = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Everything below the bench's own folder; `down` may remove `home` and `postgres` at any time."""

    base: Path

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def postgres(self) -> Path:
        return self.base / "pg"

    @property
    def secrets(self) -> Path:
        return self.base / "secrets.json"

    @property
    def passwords(self) -> Path:
        return self.base / "passwords.json"

    @property
    def records(self) -> Path:
        """Apart from the bench's own, so that `python -m testbench down` leaves Airflow to us."""
        return self.base / "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Made once per bench; every component must see the same ones."""

    jwt: str
    session: str
    fernet: str
    database: str


PATHS = Paths(base=config.BENCH / "airflow")
URL = f"http://{HOST}:{PORT}"


def environment(secrets: Secrets, *, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """What every Airflow process gets: the person's environment with our settings over it.

    `PYTHONDONTWRITEBYTECODE` is dropped: without bytecode every task process compiles its imports anew,
    3 s a task.
    """
    start = os.environ if base is None else base
    kept = {k: v for k, v in start.items() if k not in _DROPPED and not k.startswith("AIRFLOW")}
    return (
        kept
        | _core(secrets)
        | _services(secrets)
        | connections()
        | {"PYTHONPATH": str(config.ROOT / "config")}
    )


def _core(secrets: Secrets) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(PATHS.home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(config.ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(config.ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__FERNET_KEY": secrets.fernet,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{URL}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{u}:{r}" for u, r in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(PATHS.passwords),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
            f"postgresql+psycopg2://airflow:{secrets.database}@{HOST}:{POSTGRES_PORT}/airflow"
        ),
        # The stock second is mostly waiting; a tenth of one burns a fifth of a core while nothing runs.
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        # A worker that was killed is noticed, and its task tried again, in seconds instead of minutes.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
        # So are the tasks of a scheduler that was killed: they belong to nobody until it counts as dead.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _services(secrets: Secrets) -> dict[str, str]:
    return {
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(PORT),
        "AIRFLOW__API__BASE_URL": URL,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets.session,
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.jwt,
        "AIRFLOW__API_AUTH__JWT_ISSUER": "llm-release-bench",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": "8893",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": "8894",
    }


def connections() -> dict[str, str]:
    """What a person sets on their own Airflow too: the project's folder and the connection."""
    return {
        "LLM_RELEASE_HOME": str(config.ROOT),
        f"AIRFLOW_CONN_{CONNECTION.upper()}": json.dumps(
            {
                "conn_type": "google_cloud_platform",
                "extra": {
                    "key_path": str(config.SERVICE_ACCOUNT),
                    "project": config.PROJECT,
                    "scope": "https://www.googleapis.com/auth/cloud-platform",
                    "container_api_endpoint": config.GOOGLE,
                    "compute_api_endpoint": config.GOOGLE,
                    "storage_api_endpoint": config.STORAGE,
                    "logging_api_endpoint": config.GOOGLE,
                },
            }
        ),
    }
