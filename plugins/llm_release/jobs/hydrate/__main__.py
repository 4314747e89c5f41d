"""`python -m llm_release.jobs.hydrate`: brings a model's files from the hub onto a volume.

The hub's address is HF_ENDPOINT; the token is read from the file at HF_TOKEN_PATH, where there is one.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from llm_release.clients.hub import ENDPOINT, Hub
from llm_release.core.exitcodes import Code, Refused
from llm_release.jobs import result
from llm_release.jobs.hydrate.fetch import Policy
from llm_release.jobs.hydrate.run import Request, hydrate
from llm_release.jobs.token import mounted_token

_DEFAULT = Policy()


def main(arguments: list[str]) -> dict[str, Any]:
    options = _parser().parse_args(arguments)
    if not 1 <= options.connections <= 256 or options.stall_seconds <= 0:
        raise Refused(
            Code.BAD_INPUT,
            "--connections is 1 to 256, --stall-seconds more than 0.",
            next_action="correct the job's arguments.",
        )
    _more_descriptors()
    hub = Hub(os.environ.get("HF_ENDPOINT") or ENDPOINT, mounted_token())
    request = Request(
        repo=options.repo,
        commit=options.commit,
        dest=options.dest,
        release=options.release,
        include=tuple(options.include),
        listing=options.listing,
    )
    return hydrate(request, hub, Policy(connections=options.connections, stall_s=options.stall_seconds))


def _parser() -> result.Parser:
    parser = result.Parser(prog="hydrate", description=__doc__)
    parser.add_argument("--repo", required=True, help="owner/name on the hub")
    parser.add_argument("--commit", required=True, help="40 hex digits")
    parser.add_argument("--dest", required=True, type=Path, help="folder on the volume")
    parser.add_argument("--release", required=True, help="release id, kept in the marker")
    parser.add_argument("--include", action="append", default=[], metavar="GLOB", help="default: every file")
    parser.add_argument("--listing", metavar="sha256:...", help="digest that the list of files must have")
    parser.add_argument("--connections", type=int, default=_DEFAULT.connections)
    parser.add_argument("--stall-seconds", type=float, default=_DEFAULT.stall_s)
    return parser


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise result.Stopped(f"the job was told to stop ({signal.Signals(number).name}).")


def _more_descriptors() -> None:
    """One per file and connection; the soft limit is often 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    for _signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(_signal, _stop)
    sys.exit(result.run("hydrate", lambda: main(sys.argv[1:])))
