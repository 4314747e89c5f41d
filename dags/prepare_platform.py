"""
### Prepare a cluster

Makes what releases need and a release itself may not make: the StorageClass (Retain), the roles, and in the
namespace of every service its service accounts. Repeatable: what is right already is not written. One DAG for each
file in `include/clusters/`.

The connection needs the right to create roles for this one DAG; the releases then need only what these roles grant.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from llm_release.operators.platform import PlatformOperator

CLUSTERS = Path(__file__).resolve().parents[1] / "include" / "clusters"


def platform_dag(cluster: str) -> DAG:
    with DAG(
        f"platform__{cluster}",
        description=f"Prepare cluster {cluster} for releases",
        doc_md=__doc__,
        schedule=None,
        catchup=False,
        max_active_runs=1,
        default_args={"owner": "llm-release", "retries": 2, "retry_delay": timedelta(seconds=15)},
        tags=["llm-release", "platform", cluster],
    ) as dag:
        PlatformOperator(task_id="prepare", cluster=cluster, execution_timeout=timedelta(minutes=5))
    return dag


for _file in sorted(CLUSTERS.glob("*.yaml")):
    globals()[f"platform__{_file.stem}"] = platform_dag(_file.stem)
