"""Tells the kubelet where a CSI driver's socket is: the plugin registration API, two calls over gRPC.

usage: python -m testbench.cluster.registrar CSI_SOCKET REGISTRATION_SOCKET

The node-driver-registrar cannot be had from the Go module proxy. The messages (kubelet pluginregistration/v1)
are so small that they are described here instead of being generated.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DRIVER = "pd.csi.storage.gke.io"
_STRING, _BOOL = 9, 8
_MESSAGES: dict[str, tuple[tuple[str, int, bool], ...]] = {
    "PluginInfo": (
        ("type", _STRING, False),
        ("name", _STRING, False),
        ("endpoint", _STRING, False),
        ("supported_versions", _STRING, True),
    ),
    "RegistrationStatus": (("plugin_registered", _BOOL, False), ("error", _STRING, False)),
    "RegistrationStatusResponse": (),
    "InfoRequest": (),
}


def main(csi_socket: str, registration_socket: str) -> None:
    """Serves until it is ended."""
    kinds = _kinds()

    def info(request: Any, context: Any) -> Any:
        return kinds["PluginInfo"](
            type="CSIPlugin", name=DRIVER, endpoint=csi_socket, supported_versions=["1.0.0"]
        )

    def notify(request: Any, context: Any) -> Any:
        print(f"registered={request.plugin_registered} error={request.error!r}", flush=True)
        return kinds["RegistrationStatusResponse"]()

    handlers = {
        "GetInfo": _unary(info, kinds["InfoRequest"], kinds["PluginInfo"]),
        "NotifyRegistrationStatus": _unary(
            notify, kinds["RegistrationStatus"], kinds["RegistrationStatusResponse"]
        ),
    }
    Path(registration_socket).unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("pluginregistration.Registration", handlers),)
    )
    server.add_insecure_port(f"unix:{registration_socket}")
    server.start()
    server.wait_for_termination()


def _unary(call: Any, request: Any, answer: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        call, request_deserializer=request.FromString, response_serializer=answer.SerializeToString
    )


def _kinds() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="registration.proto", package="pluginregistration", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, repeated) in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=kind, label=3 if repeated else 1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"pluginregistration.{n}"))
        for n in _MESSAGES
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
