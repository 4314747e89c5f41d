"""Where a gate job's full result goes: to the store when it can be reached, and to stdout in any case."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from llm_release.core.errors import ReleaseError
from llm_release.core.exitcodes import Code, Refused
from llm_release.core.smoke import Prompt, parse_prompts
from llm_release.jobs.result import log

_STORE_S = 30.0


def keep(document: Mapping[str, Any], output: str | None) -> bool:
    """Writes the document to `output`; False when it could not be written (it is on stdout then).

    Args:
        document: plain data.
        output: gs://bucket/path of the document; None: nowhere.
    """
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
    if output is None:
        return False
    from llm_release.clients import store

    try:
        bucket, path = store.split_uri(output)
        client = store.connect()
        store.Store(bucket, "", client, deadline_s=_STORE_S).write_text(path, text)
    except ReleaseError as e:
        log(f"evidence {json.dumps(document, sort_keys=True)}")
        log(f"stored=false cause={e}")
        return False
    log(f"stored=true uri={output}")
    return True


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """
    Raises:
        Permanent: no such file, no YAML, or not of the form of core.smoke.Prompts.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        said = str(e).splitlines()[0]
        raise Refused(
            Code.BAD_INPUT,
            f"the prompts file {path} cannot be read: {said}.",
            next_action="correct the prompts file.",
        ) from e
    return parse_prompts(document, path.name)
