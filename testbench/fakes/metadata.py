"""The metadata server of one node, as far as the CSI driver and google-auth ask it.

Like the real one it refuses who does not send `Metadata-Flavor: Google`. It never changes and cannot be waited on.
"""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = "/computeMetadata/v1/"


def answers(*, instance: str, project: str, number: str, zone: str, machine: str) -> dict[str, str]:
    """Path below `PREFIX` -> body."""
    token = {"access_token": "bench-node", "expires_in": 3600, "token_type": "Bearer"}
    return {
        "": "",
        "instance/name": instance,
        "instance/zone": f"projects/{number}/zones/{zone}",
        "instance/machine-type": f"projects/{number}/machineTypes/{machine}",
        "instance/service-accounts/default/token": json.dumps(token),
        "project/project-id": project,
        "project/numeric-project-id": number,
    }


def handler(known: dict[str, str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0].removeprefix(PREFIX).strip("/")
            body = known.get(path, "").encode()
            asked_rightly = not path or self.headers.get("Metadata-Flavor") == "Google"
            self.send_response((200 if path in known else 404) if asked_rightly else 403)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header(
                "Content-Type", "application/json" if path.endswith("/token") else "application/text"
            )
            body = body if asked_rightly else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testbench.fakes.metadata", description=__doc__)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--instance", required=True)
    parser.add_argument("--project", default="demo")
    parser.add_argument("--number", default="123456789012")
    parser.add_argument("--zone", default="us-central1-a")
    parser.add_argument("--machine-type", default="g2-standard-24")
    args = parser.parse_args()
    host, _, port = args.listen.partition(":")
    known = answers(
        instance=args.instance,
        project=args.project,
        number=args.number,
        zone=args.zone,
        machine=args.machine_type,
    )
    ThreadingHTTPServer((host, int(port)), handler(known)).serve_forever()


if __name__ == "__main__":
    main()
