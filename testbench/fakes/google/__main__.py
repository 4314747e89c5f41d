"""Starts the fake of Google's APIs; see the package's docstring for what it answers."""

from __future__ import annotations

import argparse
from pathlib import Path

from testbench.fakes.google import control, instances
from testbench.fakes.google.cloud import Cloud, Settings
from testbench.fakes.google.service import Service
from testbench.fakes.web import Server, address, serve_until_signalled


def build(settings: Settings, nodes: list[str]) -> Cloud:
    """A cloud as it was left, with an instance for each node (NAME or NAME=MACHINE_TYPE)."""
    cloud = Cloud(settings)
    scope = f"projects/{settings.project}/zones/{settings.zone}"
    for node in nodes:
        name, _, machine = node.partition("=")
        key = f"{scope}/instances/{name}"
        if key not in cloud.state.held.resources:
            wish = {
                "name": name,
                "machineType": f"zones/{settings.zone}/machineTypes/{machine or 'g2-standard-24'}",
            }
            with cloud.state.changing():
                instances.insert_done(cloud, instances.add(cloud, scope, wish), {})
    control.clean(cloud)
    control.relink(cloud)
    cloud.machines.resume()
    cloud.operations.resume()
    return cloud


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testbench.fakes.google", description=__doc__)
    add = parser.add_argument
    add("--listen", required=True, metavar="HOST:PORT")
    add("--state", required=True, type=Path, help="folder of the state and of writes.jsonl")
    add("--disks", required=True, type=Path, help="folder of the disks' files")
    add("--node-roots", required=True, type=Path, help="folder with a file per node that names its root")
    add("--ca", required=True, type=Path, help="CA certificate (PEM) of the API server")
    add("--bearer", required=True, type=Path, help="file with the token that /token hands out")
    add("--api-server", required=True, help="address of the API server, https://host:port")
    add("--iam", type=Path, help='JSON {"principal": ["permission", ...]}; without it everything is allowed')
    add(
        "--service-account",
        type=Path,
        action="append",
        default=[],
        help="key file whose signatures are checked",
    )
    add("--node", action="append", default=[], metavar="NAME[=MACHINE_TYPE]", help="instance that must exist")
    add("--project", default="demo")
    add("--zone", default="us-central1-a")
    add("--cluster", default="demo")
    add("--location", default="us-central1")
    add("--cluster-version", default="1.36.3-gke.1000000")
    add("--autopilot", action="store_true")
    add("--latency", type=float, default=0.2, help="seconds that an operation takes")
    add("--records", type=Path, help="folder for the records of started machines; without it none is started")
    add("--logs", type=Path, help="folder for the machines' logs")
    args = parser.parse_args()
    settings = Settings(
        state=args.state,
        disks=args.disks,
        node_roots=args.node_roots,
        ca=args.ca,
        bearer=args.bearer,
        api_server=args.api_server,
        url=f"http://{args.listen}",
        project=args.project,
        zone=args.zone,
        cluster=args.cluster,
        location=args.location,
        autopilot=args.autopilot,
        cluster_version=args.cluster_version,
        latency_s=args.latency,
        iam=args.iam,
        service_accounts=tuple(args.service_account),
        records=args.records,
        logs=args.logs,
    )
    cloud = build(settings, args.node)
    serve_until_signalled([Server(address(args.listen), Service(cloud))])


if __name__ == "__main__":
    main()
