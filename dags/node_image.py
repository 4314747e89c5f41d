"""
### Build a secondary boot disk, or delete old ones

Makes the disk image that lets a GKE node start an engine's container in seconds: the image's layers, unpacked. A
release builds its own when its cluster has `node_images`; this DAG builds one ahead of time, or one for several
images, or one for a service that something else deploys.

1. **resolve**: every image to its digest; it must exist for linux/amd64.
2. **node_image**: a machine pulls the images and copies their layers to a disk, which becomes the image. One that
   exists for the same digests is used as it is.
3. **verify_image**: a second machine reads every layer back; only then the image is labelled `verified`.
4. **end**: no machine and no disk of this run stays, whatever happened.
5. **sweep**: only when asked for. Disk images of ours that nothing names are deleted; the facts have each that stays
   and why: a Deployment, ComputeClass, node pool, or the record of a live or previous release names it, or it is
   younger than 7 days (1 day when it is not verified). Every cluster of the project that has a file in
   `include/clusters` is asked; when one does not answer, or a service is being released, nothing is deleted.

The image's name is in the facts of *resolve* (`image`): what pods and ComputeClasses ask for. Without an image only
*sweep* runs. A run is red when its work failed, and when something of it could not be taken away.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, TriggerRule, chain

from llm_release.operators.node_image import NodeImageOperator

CLUSTERS = sorted(
    f.stem for f in (Path(__file__).resolve().parents[1] / "include" / "clusters").glob("*.yaml")
)

PARAMS = {
    "cluster": Param(
        CLUSTERS[0] if CLUSTERS else "",
        enum=CLUSTERS or [""],
        title="Cluster",
        description="Whose project, registries and builder network are used: include/clusters/<name>.yaml.",
    ),
    "images": Param(
        [],
        type="array",
        items={"type": "string", "maxLength": 400},
        title="Engine images",
        description="With tag or digest, one a line. Several share one disk. Empty only with sweep.",
        examples=["us-docker.pkg.dev/my-project/llm/vllm-openai:v0.32.0"],
    ),
    "zone": Param(
        "",
        type="string",
        title="Zone",
        description="Where the machine builds. Empty: the zone of the cluster's file.",
        maxLength=40,
    ),
    "size_gib": Param(
        None,
        type=["null", "integer"],
        minimum=10,
        maximum=1000,
        title="Disk size, GiB",
        description="Empty: by the size of the images in their registry, once more with twice as much if too small.",
    ),
    "network": Param(
        "",
        type="string",
        title="Subnetwork of the machine",
        description="regions/<region>/subnetworks/<name>. Empty: that of the cluster's file.",
        maxLength=200,
    ),
    "sweep": Param(
        False,
        type="boolean",
        title="Sweep",
        description="Delete disk images of ours that nothing names any more.",
    ),
}

with DAG(
    "node_image",
    description="Build and verify a secondary boot disk that holds engine images",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    params=PARAMS,
    default_args={
        "owner": "llm-release",
        "retries": 2,
        "retry_delay": timedelta(seconds=15),
        "execution_timeout": timedelta(minutes=10),
    },
    tags=["llm-release", "node-image"],
) as dag:
    resolve = NodeImageOperator(task_id="resolve")
    verified = NodeImageOperator(task_id="verify_image")
    end = NodeImageOperator(task_id="end")
    chain(resolve, NodeImageOperator(task_id="node_image"), verified, end)
    end.as_teardown(setups=resolve)
    # Beside `end`, not before it: whatever lies between a setup that is skipped and its teardown is skipped too.
    sweep = NodeImageOperator(task_id="sweep", trigger_rule=TriggerRule.NONE_FAILED)
    chain(verified, sweep)
    # The run's colour is its last task's, as a release's is.
    chain(
        [verified, sweep, end],
        EmptyOperator(task_id="ended", trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS),
    )
