"""How every job ends: one JSON document for Kubernetes' termination message, one line on stdout, one exit code.

Also the jobs' only way to print, because it knows what must never be printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from llm_release.core.errors import Permanent, ReleaseError, Transient
from llm_release.core.exitcodes import Code, Refused, code_of

LIMIT = 4000
"""Bytes of a result; Kubernetes cuts a termination message at 4096."""
_secrets: set[str] = set()


def keep_secret(text: str) -> None:
    """Nothing printed or written by this module shows `text` from now on."""
    if text:
        _secrets.add(text)


def log(line: str) -> None:
    """One fact on stdout."""
    print(_hidden(line), flush=True)


def run(kind: str, work: Callable[[], Mapping[str, Any]]) -> int:
    """Does `work`, tells its result or its failure, and returns the exit code of the process."""
    try:
        result, code = dict(work()), Code.OK
    except ReleaseError as e:
        result, code = _failure(kind, e), code_of(e)
    except Stopped as e:
        stopped = Transient(str(e), next_action="start it again: it goes on from what is there.")
        result, code = _failure(kind, stopped), code_of(stopped)
    except Exception as e:
        frames = "".join(traceback.format_tb(e.__traceback__))
        log(f"{frames}{type(e).__name__}: {e}")
        bug = Permanent(f"{type(e).__name__}: {e}", next_action="report it with the log of this job.")
        result, code = _failure(kind, bug, Code.INTERNAL), Code.INTERNAL
    _tell(result)
    return int(code)


class Stopped(BaseException):
    """The job was told to end. Like KeyboardInterrupt no `except Exception`: nothing may take it for a failure
    of what it was doing, and try that again."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose refusal is a permanent failure with our exit code, not a 2."""

    def error(self, message: str) -> NoReturn:
        raise Refused(
            Code.BAD_INPUT, f"{message}.", next_action="correct the job's arguments (--help lists them)."
        )


def _failure(kind: str, e: ReleaseError, code: Code | None = None) -> dict[str, Any]:
    number = code or code_of(e)
    permanent = number in range(10, 30)
    error = {
        "class": "permanent" if permanent else "transient",
        "code": number.label,
        "cause": e.cause,
        "next": e.next_action[:300],
    }
    return {"kind": kind, "error": error}


def _fitting(result: Mapping[str, Any]) -> str:
    """The result as JSON of at most LIMIT bytes: reasons go from the end, then the cause is cut."""
    shown = dict(result)
    while len(text := json.dumps(shown)) > LIMIT:
        if shown.get("reasons"):
            shown["reasons"] = shown["reasons"][:-1]
        elif (cause := shown.get("error", {}).get("cause", "")) and len(cause) > 1:
            shown["error"] = {**shown["error"], "cause": cause[: len(cause) // 2]}
        else:
            raise ValueError(f"a result of {len(text)} bytes does not fit into a termination message")
    return text


def _tell(result: Mapping[str, Any]) -> None:
    text = _fitting(json.loads(_hidden(json.dumps(result))))
    print(f"result {text}", flush=True)
    path = Path(os.environ.get("TERMINATION_LOG", "/dev/termination-log"))
    try:
        path.write_text(text)
    except OSError as e:
        # Outside of a pod there is no such file; stdout has it.
        print(f"no termination message: {e.strerror}", file=sys.stderr, flush=True)


def _hidden(text: str) -> str:
    for secret in _secrets:
        text = text.replace(secret, "***")
    return text
