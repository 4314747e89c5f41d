"""python -m testbench.fakes.hf_hub: serves until SIGTERM."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from testbench.fakes.hf_hub.access import Tokens
from testbench.fakes.hf_hub.server import Address, build


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    parser = argparse.ArgumentParser(prog="testbench.fakes.hf_hub", description=__doc__)
    parser.add_argument("--listen", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument("--cdn", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--rate", type=float, help="bytes per second of each connection")
    parser.add_argument("--tokens", type=Path, help='JSON: {"good": [...], "no_terms": [...]}')
    parser.add_argument("--page-size", type=int, default=100, help="entries of a tree per page")
    parser.add_argument("--link-seconds", type=float, default=3600, help="life of a CDN address")
    args = parser.parse_args()
    pair = build(
        args.root,
        args.listen,
        args.cdn,
        rate=args.rate,
        tokens=Tokens.load(args.tokens) if args.tokens else None,
        page=args.page_size,
        link_seconds=args.link_seconds,
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    pair.start()
    print(f"hub on {pair.url}, CDN on port {pair.cdn.server_port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    pair.stop()


if __name__ == "__main__":
    main()
