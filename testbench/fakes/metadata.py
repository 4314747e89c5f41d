"""The metadata server of one node, as far as the CSI driver and google-auth ask it.

Like the real one it refuses who does not send `Metadata-Flavor: Google`. It never changes and cannot be waited on;
guest attributes are written to a file, one writer at a time.
"""

from __future__ import annotations

import argparse
import json
import socketserver
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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


def handler(known: dict[str, str], guest: Path | None = None) -> type[BaseHTTPRequestHandler]:
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

        def do_PUT(self) -> None:
            """Guest attributes: what the machine tells about itself."""
            path = self.path.removeprefix(PREFIX).strip("/").removeprefix("instance/guest-attributes/")
            value = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace")
            allowed = guest is not None and self.headers.get("Metadata-Flavor") == "Google"
            if guest is not None and allowed:
                kept = json.loads(guest.read_text()) if guest.exists() else {}
                draft = guest.with_suffix(".new")
                draft.write_text(json.dumps({**kept, path: value}))
                draft.replace(guest)
            self.send_response(200 if allowed else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        """Without asking for the address's name: in a machine nobody answers that, and it takes 10 s."""
        socketserver.TCPServer.server_bind(self)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testbench.fakes.metadata", description=__doc__)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--instance", required=True)
    parser.add_argument("--project", default="demo")
    parser.add_argument("--number", default="123456789012")
    parser.add_argument("--zone", default="us-central1-a")
    parser.add_argument("--machine-type", default="g2-standard-24")
    parser.add_argument("--attributes", type=Path, help="JSON: the instance's metadata")
    parser.add_argument("--guest-attributes", type=Path, help="JSON: where guest attributes are kept")
    parser.add_argument("--ready", type=Path, help="file that is made once it listens")
    args = parser.parse_args()
    host, _, port = args.listen.partition(":")
    known = answers(
        instance=args.instance,
        project=args.project,
        number=args.number,
        zone=args.zone,
        machine=args.machine_type,
    )
    if args.attributes:
        given = json.loads(args.attributes.read_text())
        known |= {f"instance/attributes/{key}": value for key, value in given.items()}
    server = _Server((host, int(port)), handler(known, args.guest_attributes))
    if args.ready:
        args.ready.touch()
    server.serve_forever()


if __name__ == "__main__":
    main()
