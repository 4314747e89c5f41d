"""What every kind of resource has alike: get, list, aggregated list, setLabels, testIamPermissions."""

from __future__ import annotations

from collections import defaultdict

from testbench.fakes.google import errors, listing, offer, rules
from testbench.fakes.google.calls import Call, Endpoint
from testbench.fakes.google.cloud import Cloud
from testbench.fakes.google.messages import Resource
from testbench.fakes.google.state import new_id, now

_LABELS_BODY = {"disks": "zoneSetLabels", "instances": "instancesSetLabels"}


def identity(cloud: Cloud, scope: str, kind: str, name: str) -> Resource:
    """The fields that the service gives to anything new."""
    fields: Resource = {
        "kind": f"compute#{kind[:-1]}",
        "id": new_id(),
        "selfLink": f"{cloud.base}{scope}/{kind}/{name}",
        "creationTimestamp": now(),
    }
    place = scope.split("/")[2]
    if place in ("zones", "regions"):
        fields[place[:-1]] = cloud.base + scope
    return fields


def get(call: Call) -> Resource:
    return call.cloud.state.need(call.key)


def list_(call: Call) -> Resource:
    offer.check_place(call.scope)
    prefix = f"{call.scope}/{call['kind']}"
    items, token = listing.page(call.cloud.state.under(prefix), call.request.query)
    return listing.document(
        f"{call['kind'][:-1]}List", [r for _, r in items], link=call.cloud.base + prefix, token=token
    )


def aggregated(call: Call, kind: str, name: str) -> Resource:
    """Every zone and region of the project, the empty ones with the service's warning."""
    project = f"projects/{call['project']}"
    found = [(k, r) for k, r in call.cloud.state.under(project) if k.split("/")[-2] == kind]
    items, token = listing.page(found, call.request.query)
    by_place: defaultdict[str, list[Resource]] = defaultdict(list)
    for key, resource in items:
        by_place["/".join(key.split("/")[2:-2])].append(resource)
    document: Resource = {
        "kind": f"compute#{name}",
        "selfLink": f"{call.cloud.base}{project}/aggregated/{kind}",
    }
    document["items"] = {
        place: {kind: by_place[place]} if place in by_place else _empty(place) for place in offer.places()
    }
    return document | ({"nextPageToken": token} if token else {})


def _empty(place: str) -> Resource:
    data = [{"key": "scope", "value": place}]
    said = f"There are no results for scope '{place}' on this page."
    return {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": said, "data": data}}


def set_labels(call: Call) -> Resource:
    """Needs the fingerprint of the labels as they are, so that two writers do not undo each other."""
    resource = call.cloud.state.need(call.key)
    body = call.body(_LABELS_BODY.get(call["kind"], "globalSetLabels"))
    labels = body.get("labels", {})
    rules.check_labels(labels)
    if body.get("labelFingerprint", "") != resource.get("labelFingerprint"):
        said = "Labels fingerprint either invalid or resource labels have changed"
        raise errors.ApiError(412, "conditionNotMet", said)
    with call.cloud.state.changing():
        resource["labels"] = labels
        resource["labelFingerprint"] = rules.fingerprint(labels)
    return call.started("setLabels", call.key)


def test_permissions(call: Call) -> Resource:
    asked = call.body("testPermissions").get("permissions", [])
    allowed = call.cloud.identity.allowed(call.principal, asked)
    return {"permissions": allowed} if allowed else {}


def endpoints(kind: str, *, place: str) -> tuple[Endpoint, ...]:
    many = f"projects/{{project}}/{place}/{{kind:{kind}}}"
    one = f"{many}/{{name}}"
    return (
        Endpoint("GET", many, list_, f"compute.{kind}.list"),
        Endpoint("GET", one, get, f"compute.{kind}.get"),
        Endpoint("POST", f"{one}/setLabels", set_labels, f"compute.{kind}.setLabels"),
        Endpoint("POST", f"{one}/testIamPermissions", test_permissions),
    )
