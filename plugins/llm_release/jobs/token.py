"""The hub's token, as the cluster mounts it. The only place that reads it."""

from __future__ import annotations

import os
from pathlib import Path

from llm_release.core.exitcodes import Code, Refused
from llm_release.jobs import result


def mounted_token() -> str | None:
    """The content of the file at HF_TOKEN_PATH; None where the variable or the file is missing.

    Raises:
        Refused: the file cannot be read.
    """
    path = os.environ.get("HF_TOKEN_PATH")
    if not path:
        return None
    try:
        token = Path(path).read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as e:
        raise Refused(
            Code.TOKEN_REFUSED,
            f"the token file {path} cannot be read: {type(e).__name__}.",
            next_action="check the secret's volume and the job's user.",
        ) from e
    result.keep_secret(token)
    return token
