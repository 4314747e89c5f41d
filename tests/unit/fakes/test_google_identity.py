"""Who calls the fake Google and what they may: real credentials, the token service, permissions, GKE."""

from __future__ import annotations

import base64
import json
import urllib.parse
import urllib.request
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth import crypt, jwt
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request
from google.cloud import compute_v1, container_v1
from google.oauth2 import credentials as oauth
from google.oauth2 import service_account

from testbench.fakes import keys
from tests.unit.fakes.google_apis import EMAIL, PLACE, GoogleApis

SCOPE = ["https://www.googleapis.com/auth/cloud-platform"]
CLUSTER = "projects/demo/locations/us-central1/clusters/demo"


def token(google: GoogleApis) -> str:
    scoped = google.credentials.with_scopes(SCOPE)
    scoped.refresh(Request())
    return str(scoped.token)


def project(google: GoogleApis, bearer: str) -> Any:
    return google.http("GET", "/compute/v1/projects/demo", bearer=bearer)["name"]


def test_a_key_file_is_exchanged_for_the_clusters_bearer(google: GoogleApis) -> None:
    assert token(google) == "bearer-of-the-cluster"
    (google.folder / "bearer").write_text("rotated")
    assert token(google) == "rotated"


def test_the_principal_of_a_token_is_whoever_asked_for_it(google: GoogleApis) -> None:
    client = google.client(compute_v1.DisksClient, credentials=oauth.Credentials(token(google)))
    client.insert(disk_resource=compute_v1.Disk(name="weights", type_="pd-balanced"), **PLACE)
    assert [w["principal"] for w in google.control("GET", "writes")["writes"]] == [EMAIL]


def test_the_clusters_own_bearer_is_good_without_an_exchange(google: GoogleApis) -> None:
    assert project(google, "bearer-of-the-cluster") == "demo"


def test_an_unknown_token_is_refused(google: GoogleApis) -> None:
    for bearer in ("made-up", ""):
        with pytest.raises(OSError, match="401"):
            project(google, bearer)


def test_a_revoked_token_is_refused_until_it_is_restored(google: GoogleApis) -> None:
    bearer = token(google)
    assert project(google, bearer) == "demo"
    google.control("POST", "revoke")
    with pytest.raises(OSError, match="401"):
        project(google, bearer)
    google.stop()
    google.start()
    with pytest.raises(OSError, match="401"):
        project(google, bearer)
    google.control("DELETE", "revoke")
    assert project(google, token(google)) == "demo"


def test_a_signature_of_another_key_is_refused(google: GoogleApis) -> None:
    stolen = google.folder / "stolen.json"
    keys.write(stolen, email=EMAIL, project="demo", token_uri=f"{google.url}/token")
    with pytest.raises(RefreshError, match="Invalid JWT Signature"):
        service_account.Credentials.from_service_account_file(str(stolen), scopes=SCOPE).refresh(Request())


def test_an_expired_or_misshaped_assertion_is_refused(google: GoogleApis) -> None:
    signer = crypt.RSASigner.from_service_account_file(str(google.folder / "sa.json"))
    old = jwt.encode(signer, {"iss": EMAIL, "exp": 1000}).decode()
    for assertion, said in ((old, "expired"), ("a.b", "not a JWT"), ("e30.e30.e30", "RS256")):
        grant = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        with pytest.raises(OSError, match="400") as refused:
            post_form(google, grant)
        assert said in json.load(refused.value)["error_description"]  # type: ignore[arg-type]
    with pytest.raises(OSError, match="400"):
        post_form(google, {"grant_type": "refresh_token"})


def post_form(google: GoogleApis, form: dict[str, str]) -> None:
    urllib.request.urlopen(f"{google.url}/token", urllib.parse.urlencode(form).encode(), timeout=5)


def test_a_permission_that_is_missing_is_refused_and_named(google: GoogleApis) -> None:
    (google.folder / "iam.json").write_text(json.dumps({EMAIL: ["compute.disks.list", "compute.zones.get"]}))
    assert list(google.disks.list(**PLACE)) == []
    with pytest.raises(exceptions.Forbidden, match=r"'compute\.disks\.create' permission"):
        google.insert("weights")
    with pytest.raises(exceptions.Forbidden, match=r"container\.clusters\.get"):
        google.clusters.get_cluster(name=CLUSTER)


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_permissions_can_be_asked_for(google: GoogleApis, version: str) -> None:
    asked = {"permissions": ["compute.disks.create", "compute.disks.delete"]}
    bearer = token(google)
    path = f"/{version}/projects/demo:testIamPermissions"
    assert google.http("POST", path, asked, bearer) == asked
    (google.folder / "iam.json").write_text(json.dumps({EMAIL: ["compute.disks.delete"]}))
    assert google.http("POST", path, asked, bearer) == {"permissions": ["compute.disks.delete"]}
    (google.folder / "iam.json").write_text("{}")
    assert google.http("POST", path, asked, bearer) == {}


def test_the_cluster_is_the_benchs_api_server(google: GoogleApis) -> None:
    cluster = google.clusters.get_cluster(name=CLUSTER)
    assert cluster.endpoint == "10.0.0.1:6443"
    assert base64.b64decode(cluster.master_auth.cluster_ca_certificate) == b"the CA"
    assert cluster.status == container_v1.Cluster.Status.RUNNING
    assert cluster.autopilot.enabled is False
    assert cluster.current_master_version.startswith("1.")
    assert [c.name for c in google.clusters.list_clusters(parent="projects/demo/locations/-").clusters] == [
        "demo"
    ]


def test_another_cluster_is_not_found(google: GoogleApis) -> None:
    for name in (CLUSTER + "x", CLUSTER.replace("us-central1", "us-east4")):
        with pytest.raises(exceptions.NotFound):
            google.clusters.get_cluster(name=name)


def test_an_autopilot_cluster_says_so_and_has_no_pools(google: GoogleApis) -> None:
    google.stop()
    google.start(autopilot=True)
    cluster = google.clusters.get_cluster(name=CLUSTER)
    assert cluster.autopilot.enabled
    assert not cluster.node_pools


@pytest.mark.parametrize("on", [True, False])
def test_a_standard_cluster_says_what_its_new_node_pools_have(google: GoogleApis, on: bool) -> None:
    for autopilot in (False, True):
        google.stop()
        google.start(autopilot=autopilot, image_streaming=on, auto_provisioning=on)
        cluster = google.clusters.get_cluster(name=CLUSTER)
        defaults = cluster.node_pool_defaults.node_config_defaults
        assert defaults.gcfs_config.enabled is (on or autopilot)
        assert cluster.autoscaling.enable_node_autoprovisioning is (on or autopilot)


def test_the_key_file_is_for_its_owner_only(google: GoogleApis) -> None:
    path = google.folder / "new" / "sa.json"
    keys.write(path, email=EMAIL, project="demo", token_uri=f"{google.url}/token")
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["private_key"].startswith("-----BEGIN PRIVATE KEY-----")
