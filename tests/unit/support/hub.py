"""The bench's hub on loopback, with files from memory and in the words of the unit tests.

Repositories: acme/model, gated/model (terms to accept) and private/model, with the same files at COMMIT,
which main and v1 name.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testbench.fakes.hf_hub import repos
from testbench.fakes.hf_hub.access import Tokens
from testbench.fakes.hf_hub.faults import Entry
from testbench.fakes.hf_hub.faults import Fault as Armed
from testbench.fakes.hf_hub.server import build

COMMIT = "c0ffee" + "0" * 34
GOOD_TOKEN = "hf_" + "GoodTokenForTests"
OTHER_TOKEN = "hf_" + "OfSomebodyWithoutTerms"
REPOS = ("acme/model", "gated/model", "private/model")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong.

    Args:
        where: text in the path of the requests that it hits; files from the storage are below /cdn/.
        status: answer with this status and nothing else.
        retry_after: seconds, of that answer.
        cut: end the connection after so many bytes of the body.
        stall: send no more after so many bytes of the body, but keep the connection.
        flip: offset in the file of a byte that is sent wrong.
        times: how many requests it hits.
    """

    where: str
    status: int = 0
    retry_after: float | None = None
    cut: int | None = None
    stall: int | None = None
    flip: int | None = None
    times: int = 1

    def armed(self) -> Armed:
        match, count = re.escape(self.where), self.times
        if self.status:
            return Armed(
                kind="status", match=match, code=self.status, retry_after=self.retry_after, count=count
            )
        if self.flip is not None:
            return Armed(kind="corrupt", match=match, offset=self.flip, count=count)
        if self.stall is not None:
            return Armed(kind="stall", match=match, after_bytes=self.stall, count=count)
        return Armed(kind="cut", match=match, after_bytes=self.cut or 0, count=count)


class Hub:
    """A running hub; to be used with `with`.

    Args:
        files: content by path.
        page: entries of a page of the tree.
        link_seconds: life of an address of the storage.
        listed: sizes that the tree gives instead of the true ones.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        page: int = 100,
        link_seconds: float = 3600,
        listed: Mapping[str, int] | None = None,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp())
        _publish(self._folder, files, listed or {})
        tokens = Tokens(good=frozenset({GOOD_TOKEN}), no_terms=frozenset({OTHER_TOKEN}))
        self._pair = build(self._folder, page=page, link_seconds=link_seconds, tokens=tokens)
        self.url = self._pair.url

    def __enter__(self) -> Hub:
        self._pair.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pair.stop()
        shutil.rmtree(self._folder)

    def goes_wrong(self, *faults: Fault) -> None:
        """From now on these and no others."""
        self._pair.hub.faults.clear()
        for fault in faults:
            self._pair.hub.faults.add(fault.armed())

    def fresh(self) -> Hub:
        """Nothing goes wrong any more, and nothing was asked yet."""
        self.goes_wrong()
        self.slow_to(None)
        self._pair.hub.log.reset()
        return self

    def slow_to(self, rate: float | None) -> None:
        """Bytes a second of each connection; None: as fast as it goes."""
        self._pair.hub.rate = self._pair.cdn.rate = rate

    @property
    def asked(self) -> list[Entry]:
        return [Entry(**e) for e in self._pair.hub.log.listing()]

    @property
    def sent(self) -> int:
        """Bytes of files that left, over all connections."""
        return sum(e.bytes for e in self.asked if e.origin == "cdn" or "/resolve/" in e.path)


def _publish(root: Path, files: Mapping[str, bytes], listed: Mapping[str, int]) -> None:
    source = root / "source"
    for path, data in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
    made = repos.publish(root, REPOS[0], source, link=True, license="gemma")
    commits = root / REPOS[0] / "commits"
    (commits / made).rename(commits / COMMIT)
    index = commits / COMMIT / "index.json"
    facts = [{**f, "size": listed.get(f["path"], f["size"])} for f in json.loads(index.read_text())]
    index.write_text(json.dumps(facts))
    for repo in REPOS:
        if repo != REPOS[0]:
            shutil.copytree(commits, root / repo / "commits", copy_function=_link)
        settings = {
            "name": repo,
            "branches": {"main": COMMIT},
            "tags": {"v1": COMMIT},
            "gated": repo == "gated/model",
            "private": repo == "private/model",
            "license": "gemma",
        }
        (root / repo / "repo.json").write_text(json.dumps(settings))


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
