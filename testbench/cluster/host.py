"""What the bench changes on the host outside processes: bridges, sysctls, packet rules. All of it is undone.

Every old value is written down before it is changed, so that a bench that was killed can still be undone.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from testbench import config

UNDO = config.BENCH / "host.json"
TABLE = "llm_release_bench"
SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "fs.inotify.max_user_instances": "1024",
    "fs.inotify.max_user_watches": "524288",
    "vm.overcommit_memory": "1",
}


def prepare() -> None:
    """Bridge of the services, forwarding, and one masquerade rule for what leaves the pods' range."""
    _set_sysctls()
    bridge(config.SERVICES_BRIDGE, f"{config.SERVICES}/32")
    rules = f"""
table ip {TABLE} {{
  chain post {{
    type nat hook postrouting priority srcnat;
    ip saddr {config.POD_RANGE} ip daddr != {config.POD_RANGE} masquerade
  }}
}}
"""
    run("nft", "-f", "-", text=f"add table ip {TABLE}\ndelete table ip {TABLE}\n{rules}")


def restore() -> None:
    """Takes everything back; what is gone already is no error."""
    quiet("nft", "delete", "table", "ip", TABLE)
    for table in ("ip kube-proxy", "ip6 kube-proxy"):
        quiet("nft", "delete", "table", *table.split())
    for link in links():
        quiet("ip", "link", "delete", link)
    if UNDO.exists():
        for name, value in json.loads(UNDO.read_text()).items():
            _sysctl(name).write_text(value)
        UNDO.unlink()


def bridge(name: str, address: str) -> None:
    if not Path(f"/sys/class/net/{name}").exists():
        run("ip", "link", "add", name, "type", "bridge")
    quiet("ip", "address", "add", address, "dev", name)
    run("ip", "link", "set", name, "up")


def links() -> list[str]:
    """Bridges of ours that exist."""
    return sorted(p.name for p in Path("/sys/class/net").glob("llmr-*"))


def run(*argv: str, text: str | None = None) -> str:
    """Runs a command of the system.

    Raises:
        RuntimeError: with what it said.
    """
    done = subprocess.run(argv, capture_output=True, text=True, input=text, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def quiet(*argv: str) -> bool:
    """Runs a command whose failure means that there was nothing to do."""
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _set_sysctls() -> None:
    old = json.loads(UNDO.read_text()) if UNDO.exists() else {}
    for name in SYSCTLS:
        old.setdefault(name, _sysctl(name).read_text().strip())
    UNDO.parent.mkdir(parents=True, exist_ok=True)
    UNDO.write_text(json.dumps(old))
    for name, value in SYSCTLS.items():
        if int(_sysctl(name).read_text()) < int(value) or name == "net.ipv4.ip_forward":
            _sysctl(name).write_text(value)


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")
