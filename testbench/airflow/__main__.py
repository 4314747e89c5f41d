"""`python -m testbench.airflow up|down|status`."""

from __future__ import annotations

import argparse
import sys

from testbench.airflow import credentials, stack
from testbench.airflow.settings import PATHS, URL, USERS


def main() -> int:
    """Exit code: 0 done (status: everything is up), 1 not."""
    arguments = _parser().parse_args()
    try:
        if arguments.command == "up":
            stack.up(tick_s=arguments.tick)
        elif arguments.command == "down":
            stack.down(purge=arguments.purge)
        else:
            return _status()
    except RuntimeError as e:
        print(e, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m testbench.airflow", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start PostgreSQL and Airflow, wait until healthy")
    up.add_argument("--tick", type=float, metavar="SECONDS", help="shorter triggerer tick (tests only)")
    down = commands.add_parser("down", help="end them")
    down.add_argument("--purge", action="store_true", help="also remove the database and secrets")
    commands.add_parser("status", help="what runs, and how to log in")
    return parser


def _status() -> int:
    found = stack.status()
    for name, runs in found.processes.items():
        print(f"{name:24}{'runs' if runs else 'down'}")
    for part, word in found.health.items():
        print(f"{part:24}{word}")
    if found.up:
        for user, role in USERS.items():
            print(f"{URL}  {role}: {user} / {credentials.password(PATHS, user)}")
    return 0 if found.up else 1


if __name__ == "__main__":
    sys.exit(main())
