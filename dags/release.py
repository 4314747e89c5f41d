"""
### Release a model

Turns "this model commit, this engine image" into "this release serves". One DAG for each file in
`include/services/`.

**Before the first run** trigger `platform__<cluster>` once. **Trigger** with a revision of the model (branch, tag or
commit); everything after *resolve* is pinned to bytes.

1. **open**: resolve the names, check what can be known to fail, plan, take the service's lease.
2. **stage**: a new Hyperdisk ML, filled from the hub, verified, sealed read-only, published as a static PV/PVC.
   Beside it the secondary boot disk with the engine's image, where the cluster has such: built once per digest,
   and the node pool or ComputeClass whose nodes have it.
3. **roll out**: the candidate beside the live release; proof of what every pod serves; where the time of its
   start went, against a budget and the release before.
4. **gate**: fixed prompts whose answers are judged, then an open-loop load test.
5. **decide**: only PASS goes on. A refused release is a red run with its reason; the live release was never touched.
6. **promote**: as many pods as the live release has, one switch of the Service, then the old release is drained
   and kept; nodes that no release needs any more go.
7. **close**: end the machines that build disk images, tidy up, write the record, give the lease back. Runs whatever
   happened.

A green run means that the release serves. A release that is live already ends after *plan*, without a single write.
Any red task can be cleared: steps look at what is there and go on from it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, TaskGroup, TriggerRule, chain

from llm_release.operators.step import StepOperator

SERVICES = Path(__file__).resolve().parents[1] / "include" / "services"

PARAMS = {
    "revision": Param(
        "",
        type="string",
        title="Model revision",
        description="Branch, tag or 40-hex commit on the hub. Empty: the revision of the service's file.",
        maxLength=200,
        examples=["main", "v1.1", "11c9b309abf73637e4b6f9a3fa1e92e615547819"],
    ),
    "image": Param(
        "",
        type="string",
        title="Engine image",
        description="Image with tag or digest. Empty: the image of the service's file.",
        maxLength=400,
    ),
}

DEFAULTS = {
    "owner": "llm-release",
    "retries": 2,
    "retry_delay": timedelta(seconds=15),
    "execution_timeout": timedelta(minutes=10),
}


def release_dag(service: str) -> DAG:
    with DAG(
        f"release__{service}",
        description=f"Release a model version of {service}: stage, gate, promote",
        doc_md=__doc__,
        schedule=None,
        catchup=False,
        max_active_runs=1,
        params=PARAMS,
        default_args=DEFAULTS,
        tags=["llm-release", "release", service],
    ) as dag:

        def step(name: str, **more: object) -> StepOperator:
            return StepOperator(task_id=name.split(".")[1], step=name, service=service, **more)

        with TaskGroup("open", tooltip="Resolve, check, plan, lock: nothing is created yet") as opened:
            chain(step("open.resolve"), step("open.preflight"), step("open.plan"), step("open.lock"))

        with TaskGroup("stage", tooltip="A new read-only volume with exactly these weights") as stage:
            access, published = step("stage.access"), step("stage.publish")
            chain(access, step("stage.disk"), step("stage.hydrate"), step("stage.seal"), published)
            # beside the hydration, which takes as long; skipped where a cluster has no secondary boot disks
            built, verified = step("stage.node_image"), step("stage.verify_image")
            nodes = step("stage.nodes")
            chain(access, built, verified, nodes)

        with TaskGroup("roll_out", tooltip="The candidate beside the live release") as roll_out:
            chain(
                step("roll_out.deploy", trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS),
                step("roll_out.identify"),
                step("roll_out.cold_start"),
            )

        with TaskGroup("gate", tooltip="Measured, not believed") as gate:
            smoke, load = step("gate.smoke"), step("gate.load")
            chain(smoke, load)

        with TaskGroup("decide", tooltip="Only PASS goes on") as decide:
            # load is skipped when smoke failed, and everything is when there was nothing to do.
            verdict = step("decide.verdict", trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)

        with TaskGroup("promote", tooltip="Traffic moves, the old release is drained and kept") as promote:
            drain, retired = step("promote.drain"), step("promote.retire_nodes")
            chain(step("promote.switch"), drain, retired)

        with TaskGroup("close", tooltip="Whatever happened: nothing is left, everything is on record"):
            machines, tidied = step("close.end_machines"), step("close.tidy")
            record, unlock = step("close.record"), step("close.unlock")
            chain([machines, tidied], record, unlock)

        chain(opened, stage, roll_out, gate, decide, promote, tidied)
        chain(smoke, verdict)
        # A failure on one side reaches the end of the graph at once; the other side may run for an hour yet.
        # (Airflow 3.3 lets a teardown wait for all that lies between it and its setup; nothing depends on that here.)
        chain([published, nodes, load], tidied)
        # Beside tidy, and as soon as no task builds: machines are not to wait for a hydration, nor for Kubernetes.
        chain([built, verified], machines)
        last = [machines, tidied, record, unlock]
        for task in last:
            task.as_teardown(setups=dag.get_task("open.lock"))
        # The run's colour is its last task's: red when the work failed, and when something could not be taken away.
        # (With on_failure_fail_dagrun the teardowns alone would give it, and a refused release would be green.)
        chain(
            [drain, retired, *last],
            EmptyOperator(task_id="ended", trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS),
        )
    return dag


for _file in sorted(SERVICES.glob("*.yaml")):
    globals()[f"release__{_file.stem}"] = release_dag(_file.stem)
