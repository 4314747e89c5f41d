"""Executes task `sweep` of DAG `node_image` for cluster demo and prints, as one JSON document, what its step was given.

A program of its own, as probe.py is. Nothing is connected: the clients of a cluster are made when first asked for.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from llm_release.core.request import ImageRequest
from llm_release.operators.node_image import NodeImageOperator
from llm_release.steps import image_sweep
from llm_release.steps.world import Surroundings


def main() -> dict[str, Any]:
    given: dict[str, Any] = {}

    def run(at: Surroundings, request: ImageRequest, clusters: list[Surroundings]) -> image_sweep.Swept:
        given["at"], given["sweep"] = _shown(at), request.sweep
        given["clusters"] = [_shown(cluster) for cluster in clusters]
        return image_sweep.Swept(("gone",), {"stays": "why"})

    image_sweep.run = run
    params = {"cluster": "demo", "sweep": True}
    context = {
        "dag": SimpleNamespace(dag_id="node_image", params=params),
        "run_id": "one",
        "params": params,
        "dag_run": SimpleNamespace(conf=params),
        "ti": SimpleNamespace(xcom_push=lambda key, value: None, xcom_pull=lambda **_: None),
    }
    try:
        given["facts"] = NodeImageOperator(task_id="sweep").execute(context)
    except AirflowFailException as e:
        given["failed"] = str(e)
    return given


def _shown(at: Surroundings) -> list[str]:
    """Cluster, the one that its connection is of, who works, and whether the files are those of the form's home."""
    home = "home" if at.home == Path(os.environ["LLM_RELEASE_HOME"]) else str(at.home)
    return [at.cluster.cluster, at.connect.cluster.cluster, at.holder, home]


if __name__ == "__main__":
    print(json.dumps(main()))
