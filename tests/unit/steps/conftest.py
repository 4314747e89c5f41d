"""Steps against a fake of Google's APIs, a small API server and fake-gcs-server, all asked by the real clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_release.clients.kubernetes import Kubernetes
from llm_release.clients.store import Store, connect
from llm_release.core.strict import encode
from llm_release.steps.verify_image import VerifiedImage
from tests.unit.fakes.google_apis import GoogleApis
from tests.unit.support.bed import NAMES, Bed
from tests.unit.support.gcs import gcs
from tests.unit.support.kube_api import NAMESPACE, KubeApi, api, kube
from tests.unit.support.world import HOLDER, Connected, Run, lease

__all__ = ["api", "gcs", "kube"]


@pytest.fixture
def store(gcs: str, request: pytest.FixtureRequest) -> Store:
    return Store("llm-releases", request.node.name, connect(gcs, project="demo"))


@pytest.fixture
def run(api: KubeApi, kube: Kubernetes, store: Store) -> Run:
    """A run that holds its lease, of a service that serves nothing yet."""
    lease(api, "sim", HOLDER)
    return Run(Connected(kube, store))


@pytest.fixture
def bed(run: Run, api: KubeApi, tmp_path: Path) -> Iterator[Bed]:
    """That run, where the engine's disk image is made and verified."""
    google = GoogleApis(tmp_path)
    google.start()
    run.connect.google = google
    run.facts[VerifiedImage.STEP] = encode(VerifiedImage(NAMES.image, "1"))
    api.put("v1", "Namespace", NAMESPACE)
    made = Bed(run, api, google)
    made.disk_image()
    yield made
    google.stop()
