"""The one place where our failures become Airflow's: fail for good, or fail and try again."""

from __future__ import annotations

from typing import NoReturn

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from llm_release.core.errors import Conflict, Permanent, ReleaseError


def raise_for_airflow(e: ReleaseError) -> NoReturn:
    """Permanent and Conflict are never retried; Transient and Unavailable are, as often as the task says."""
    if isinstance(e, (Permanent, Conflict)):
        raise AirflowFailException(str(e)) from e
    raise AirflowException(str(e)) from e
