from __future__ import annotations

import pytest
from google.cloud import storage

from llm_release.clients.store import Store, connect, split_uri
from llm_release.core.errors import Conflict, Permanent, Unavailable
from tests.unit.support.gcs import gcs as gcs


@pytest.fixture
def store(gcs: str, request: pytest.FixtureRequest) -> Store:
    return Store("llm-releases", f"tests/{request.node.name}", connect(gcs, project="demo"))


def test_a_document_is_read_as_it_was_written(store: Store) -> None:
    assert store.read_text("a/b.json") is None
    done = store.write_text("a/b.json", '{"name": "caf\u00e9"}')
    assert store.read_text("a/b.json") == ('{"name": "caf\u00e9"}', done.generation)
    assert done.uri == store.uri("a/b.json")
    assert done.uri.startswith("gs://llm-releases/tests/")


def test_a_later_write_has_a_later_generation(store: Store) -> None:
    first = store.write_text("x.txt", "1")
    assert store.write_text("x.txt", "2").generation > first.generation
    found = store.read_text("x.txt")
    assert found is not None
    assert found[0] == "2"


def test_only_the_first_of_two_writers_creates(store: Store) -> None:
    store.write_text("live.json", "mine", if_absent=True)
    with pytest.raises(Conflict, match="somebody else wrote it"):
        store.write_text("live.json", "yours", if_absent=True)
    found = store.read_text("live.json")
    assert found is not None
    assert found[0] == "mine"


def test_a_write_over_what_was_read_holds_only_when_nobody_wrote_in_between(store: Store) -> None:
    first = store.write_text("live.json", "1")
    second = store.write_text("live.json", "2", if_generation=first.generation)
    with pytest.raises(Conflict):
        store.write_text("live.json", "3", if_generation=first.generation)
    assert store.read_text("live.json") == ("2", second.generation)


def test_a_repeat_of_our_own_write_is_no_conflict(store: Store) -> None:
    """A request that is sent again because its answer was lost finds its own work."""
    first = store.write_text("live.json", "1", if_absent=True)
    assert store.write_text("live.json", "1", if_absent=True) == first


def test_an_empty_prefix_is_the_root_of_the_bucket(gcs: str) -> None:
    assert Store("llm-releases", "", connect(gcs)).uri("a") == "gs://llm-releases/a"


def test_a_bucket_that_is_not_there_is_permanent(gcs: str) -> None:
    with pytest.raises(Permanent, match="no such bucket"):
        Store("no-such-bucket", "p", connect(gcs, project="demo")).write_text("a", "b")


def test_a_store_that_is_not_there_is_unavailable_within_the_deadline() -> None:
    gone = Store("llm-releases", "p", connect("http://127.0.0.1:1", project="demo"), deadline_s=0.3)
    with pytest.raises(Unavailable, match="check the way to Cloud Storage"):
        gone.write_text("a", "b")
    with pytest.raises(Unavailable):
        gone.read_text("a")


def test_without_credentials_and_without_an_emulator_the_cause_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:1")
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(Permanent, match="find credentials"):
        connect(project="demo")


def test_the_emulator_of_the_environment_is_used_without_credentials(
    gcs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs)
    client = connect(project="demo")
    assert isinstance(client, storage.Client)
    assert Store("llm-releases", "p", client).read_text("absent") is None


@pytest.mark.parametrize(
    ("uri", "parts"),
    [("gs://bucket/a/b.json", ("bucket", "a/b.json")), ("gs://my-bucket.x", ("my-bucket.x", ""))],
)
def test_an_address_is_a_bucket_and_a_path(uri: str, parts: tuple[str, str]) -> None:
    assert split_uri(uri) == parts


@pytest.mark.parametrize("uri", ["", "bucket/a", "s3://bucket/a", "gs://", "gs:///a", "gs://B/a"])
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(Permanent, match="no Cloud Storage address"):
        split_uri(uri)
