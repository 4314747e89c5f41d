"""The only place where an object's name is made.

Names are functions of (service, release id), so any task, run at any time, finds the same object.
Limits: Kubernetes 63 (a Service 63, a Job's pods add 6), Compute disks 63, labels 63.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_release.core.release import Release

MANAGED_BY = "app.kubernetes.io/managed-by"
SERVICE = "llm-release/service"
RELEASE = "llm-release/release"
ROLE = "llm-release/role"
FIELD_MANAGER = "llm-release"

LIVE = "llm-release/live"
"""Annotation of the Service: id of the release that it selects."""
PREVIOUS = "llm-release/previous"
"""Annotation of the Service: id of the release before that, kept restorable."""

VOLUME_PATH = "/model"
PORT = 8000


@dataclass(frozen=True, slots=True)
class Names:
    """Names of everything that one release owns, and of what its service owns."""

    service: str
    namespace: str
    release: str

    @property
    def stem(self) -> str:
        return f"{self.service}-{self.release}"

    @property
    def disk(self) -> str:
        return f"llmr-{self.namespace}-{self.stem}"

    @property
    def staging_pv(self) -> str:
        return f"{self.namespace}-{self.stem}-staging"

    @property
    def staging_pvc(self) -> str:
        return f"{self.stem}-staging"

    @property
    def pv(self) -> str:
        return f"{self.namespace}-{self.stem}"

    @property
    def pvc(self) -> str:
        return self.stem

    @property
    def deployment(self) -> str:
        return self.stem

    @property
    def preview(self) -> str:
        return f"{self.stem}-preview"

    @property
    def live_service(self) -> str:
        return self.service

    @property
    def lease(self) -> str:
        return f"llm-release-{self.service}"

    @property
    def prompts(self) -> str:
        return f"{self.stem}-prompts"

    def job(self, kind: str, attempt: str | None = None) -> str:
        """`attempt` is the lease's fence number: a new run measures again, a re-run task adopts."""
        return f"{self.stem}-{kind}" + (f"-{attempt}" if attempt else "")

    @property
    def model_path(self) -> str:
        """Folder of the weights in every pod. It names the release, so an engine that reports this path as the
        root of its model can only have loaded it from this release's volume."""
        return f"{VOLUME_PATH}/{self.release}"

    @property
    def labels(self) -> dict[str, str]:
        return {MANAGED_BY: FIELD_MANAGER, SERVICE: self.service, RELEASE: self.release}

    @property
    def disk_labels(self) -> dict[str, str]:
        """Compute's labels know neither dots nor slashes."""
        return {
            "managed-by": FIELD_MANAGER,
            "llm-release-namespace": self.namespace,
            "llm-release-service": self.service,
            "llm-release-release": self.release,
        }

    def folder(self) -> str:
        """Folder of the release in the store, under the cluster's prefix."""
        return f"{self.service}/{self.release}"


def names(release: Release) -> Names:
    return Names(release.service, release.namespace, release.id)
