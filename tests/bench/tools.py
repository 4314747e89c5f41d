"""What several bench tests do: call kubectl as a person would, and wait for something to happen."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from testbench import config


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)


def kubectl(*words: str, text: str | None = None) -> str:
    """`text` is its standard input. -> what it printed"""
    argv = [str(config.CACHE / "go" / "bin" / "kubectl"), f"--kubeconfig={config.KUBECONFIG}", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True, input=text).stdout
