"""`python -m llm_release.jobs.access`: may the mounted token download this model? Fetches one byte, to nowhere.

Runs before any disk is made, where the token is: in the cluster.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from llm_release.clients.hub import COMMIT, ENDPOINT, Hub
from llm_release.core.exitcodes import Code, Refused
from llm_release.jobs import result
from llm_release.jobs.token import mounted_token


def main(arguments: list[str]) -> dict[str, Any]:
    parser = result.Parser(prog="access", description=__doc__)
    parser.add_argument("--repo", required=True, help="owner/name on the hub")
    parser.add_argument("--commit", required=True, help="40 hex digits")
    parser.add_argument("--path", required=True, help="one weight file")
    options = parser.parse_args(arguments)
    if not COMMIT.fullmatch(options.commit):
        raise Refused(
            Code.BAD_INPUT,
            f"{options.commit!r} is no commit.",
            next_action="give 40 hex digits, as resolve found them.",
        )
    token = mounted_token()
    hub = Hub(os.environ.get("HF_ENDPOINT") or ENDPOINT, token)
    hub.check_download(options.repo, options.commit, options.path)
    return {
        "kind": "access",
        "repo": options.repo,
        "commit": options.commit,
        "path": options.path,
        "token": token is not None,
    }


if __name__ == "__main__":
    sys.exit(result.run("access", lambda: main(sys.argv[1:])))
