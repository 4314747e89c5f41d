"""python -m testbench up|down|status|doctor|env"""

from __future__ import annotations

import argparse
import sys

from testbench import bench, config, doctor


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="testbench", description="A GKE-shaped cluster on one Linux machine."
    )
    parser.add_argument("command", choices=("up", "down", "status", "doctor", "env"))
    parser.add_argument("--without-vllm", action="store_true", help="up: leave the 4.6 GB image out")
    args = parser.parse_args(argv)
    try:
        return _run(args.command, vllm=not args.without_vllm)
    except RuntimeError as e:
        print(f"bench: {e}", file=sys.stderr)
        return 1


def _run(command: str, *, vllm: bool) -> int:
    if command == "up":
        bench.up(vllm=vllm)
    elif command == "down":
        bench.down()
    elif command == "status":
        return _status()
    elif command == "doctor":
        found = doctor.problems()
        print("\n".join(found) or "nothing is missing")
        return 1 if found else 0
    else:
        print(f"export KUBECONFIG={config.KUBECONFIG}\nexport PATH={config.CACHE / 'go' / 'bin'}:$PATH")
    return 0


def _status() -> int:
    names = sorted(p.stem for p in config.PIDS.glob("*.json")) if config.PIDS.exists() else []
    for name in names:
        print(
            f"{name:<28} {'runs' if bench.PROCESSES.running(name) else 'IS GONE'}  {config.LOGS / (name + '.log')}"
        )
    up = bench.running() and all(bench.PROCESSES.running(name) for name in names)
    print("the bench is up" if up else "the bench is down")
    return 0 if up else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
