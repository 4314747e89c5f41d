"""A job of the toolbox as the tests run it: in this process, or as Kubernetes does in one of its own."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_release.jobs import result

ROOT = Path(__file__).resolve().parents[3]


class Job:
    """`python -m llm_release.jobs.<name>`.

    Args:
        name: of the job; its module's `main` takes the arguments.
        folder: for its termination message.
        monkeypatch, capsys: of the test.
    """

    def __init__(
        self, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.name = name
        self.message = folder / "termination-log"
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.environment = {"TERMINATION_LOG": str(self.message)}

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.message.read_text())
        return found

    def run(self, *arguments: str) -> tuple[int, str]:
        """-> (exit code, output), of a run in this process."""
        for name, value in self.environment.items():
            self._monkeypatch.setenv(name, value)
        module = "hydrate.__main__" if self.name == "hydrate" else self.name
        main = importlib.import_module(f"llm_release.jobs.{module}").main
        self._capsys.readouterr()
        code = result.run(self.name, lambda: main(list(arguments)))
        written = self._capsys.readouterr()
        return code, written.out + written.err

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "plugins"), **self.environment}
        argv = [sys.executable, "-m", f"llm_release.jobs.{self.name}", *arguments]
        return subprocess.Popen(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
