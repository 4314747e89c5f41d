"""Compute Engine's errors as values that become its two shapes: an HTTP answer, or a failed operation.

Clients branch on `reason` (the PD CSI driver on notFound, invalid, resourceInUseByAnotherResource), so the
words are the service's own.
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """`code` is the HTTP status; `reason` the word of the answer; `operation_code` the word of an operation."""

    def __init__(self, code: int, reason: str, message: str, *, operation_code: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.operation_code = operation_code or reason

    def compute_body(self) -> dict[str, Any]:
        entry = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.code, "message": self.message, "errors": [entry]}}

    def container_body(self) -> dict[str, Any]:
        """The shape of the newer services (AIP-193)."""
        return {
            "error": {"code": self.code, "message": self.message, "status": _STATUS.get(self.code, "UNKNOWN")}
        }


_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def not_found(key: str) -> ApiError:
    return ApiError(404, "notFound", f"The resource '{key}' was not found")


def already_exists(key: str) -> ApiError:
    return ApiError(
        409, "alreadyExists", f"The resource '{key}' already exists", operation_code="RESOURCE_ALREADY_EXISTS"
    )


def invalid(field: str, value: object, why: str) -> ApiError:
    return ApiError(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}")


def refused(message: str) -> ApiError:
    return ApiError(400, "badRequest", message)


def in_use(kind: str, key: str, user: str) -> ApiError:
    user = user.partition("/compute/v1/")[2] or user
    return ApiError(
        400,
        "resourceInUseByAnotherResource",
        f"The {kind} resource '{key}' is already being used by '{user}'",
        operation_code="RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
    )


def not_ready(key: str) -> ApiError:
    return ApiError(400, "resourceNotReady", f"The resource '{key}' is not ready")


def quota(metric: str, limit: float, where: str) -> ApiError:
    return ApiError(
        403,
        "quotaExceeded",
        f"Quota '{metric}' exceeded.  Limit: {limit:.1f} in {where}.",
        operation_code="QUOTA_EXCEEDED",
    )


def unauthenticated(why: str) -> ApiError:
    return ApiError(401, "authError", f"Request had invalid authentication credentials. {why}")


def forbidden(permission: str, key: str) -> ApiError:
    return ApiError(403, "forbidden", f"Required '{permission}' permission for '{key}'")
