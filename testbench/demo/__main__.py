"""`python -m testbench.demo`: brings up what is missing, plays the story, leaves everything running.

Exit code 0 only if every claim held. The same facts are in `.bench/demo.json`.
"""

from __future__ import annotations

import sys

from testbench import bench, config
from testbench.airflow import credentials, stack
from testbench.airflow.client import Airflow
from testbench.airflow.settings import PATHS, URL, USERS
from testbench.demo import story
from testbench.demo.client import BackgroundClient
from testbench.demo.exchange import Question
from testbench.demo.look import Cluster, Compute, Store
from testbench.demo.proofs import NAMESPACE, QUESTION, SERVICE, Stage
from testbench.demo.report import Report
from testbench.demo.story import Stopped
from testbench.demo.writes import Ledger

IDENTITY = "system:serviceaccount:bench-system:airflow"


def main() -> int:
    report = Report()
    try:
        _play(report)
    except (KeyboardInterrupt, Stopped) as e:
        report.check("the demo was played to its end", str(e) or "interrupted", False)
    except Exception as e:
        # Whatever it was, the table of what did happen is worth more than a bare traceback.
        report.check("the demo was played to its end", f"{type(e).__name__}: {e}", False)
        raise
    finally:
        report.close()
        report.save(config.BENCH / "demo.json")
    return 0 if report.held else 1


def _play(report: Report) -> None:
    report.chapter("0. Bring up what is missing")
    bench.up()
    stack.up(say=report.say)
    stage = _stage(report)
    _links(stage)
    story.prepare(stage)
    report.chapter("2. Release A")
    _, a = story.release(stage, name="A", revision="v1")
    served = stage.cluster.served(NAMESPACE, SERVICE)
    if served is None:
        return
    question = Question(host=served.host, port=served.port, model=SERVICE, text=QUESTION)
    client = BackgroundClient(question)
    client.start()
    try:
        b = story.takeover(stage, client, a, revision="v2")
        story.refuse(stage, client, b, revision="v3")
    finally:
        client.stop()
    story.again(stage, b, revision="v2")


def _stage(report: Report) -> Stage:
    store = Store(endpoint=config.STORAGE, bucket=config.BUCKET)
    return Stage(
        airflow=Airflow(url=URL, user="alice", password=credentials.password(PATHS, "alice")),
        cluster=Cluster(config.KUBECONFIG),
        compute=Compute(endpoint=config.GOOGLE, project=config.PROJECT, token=config.BEARER),
        store=store,
        ledger=Ledger(audit=config.LOGS / "audit.jsonl", cloud=config.GOOGLE, store=store, identity=IDENTITY),
        report=report,
    )


def _links(stage: Stage) -> None:
    for user, role in USERS.items():
        login = credentials.password(PATHS, user)
        stage.report.links[f"Airflow ({role})"] = f"{URL}  {user} / {login}"
    stage.report.links["releases"] = f"{URL}/dags/{story.DAG}"
    stage.report.links["store"] = f"{config.STORAGE}/storage/v1/b/{config.BUCKET}/o"
    stage.report.links["kubectl"] = f"KUBECONFIG={config.KUBECONFIG}"
    stage.report.links["end it all"] = "make down"


if __name__ == "__main__":
    sys.exit(main())
