"""Where a cold start's time went, on recorded and public traces; and what the ledger does when witnesses lack.

A trace's truth was read off its lines by hand; the code had no part in it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from llm_release.core import coldstart, enginelog, strict
from llm_release.core.coldstart import ColdStart, Event, Phase, PodTimes

TRACES = sorted((Path(__file__).parent / "traces").glob("*.json"))
PRECISION_S = 2.0


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def split(trace: dict[str, Any]) -> ColdStart:
    return coldstart.ledger(
        strict.decode(PodTimes, trace["pod"]),
        [strict.decode(Event, e) for e in trace["events"]],
        trace["log"],
    )


def trace(name: str) -> ColdStart:
    return split(read(TRACES[0].with_name(f"{name}.json")))


@pytest.mark.parametrize("path", TRACES, ids=lambda p: p.stem)
def test_every_trace_is_split_as_a_person_reads_it(path: Path) -> None:
    document = read(path)
    found = split(document)
    assert [p.name for p in found.phases] == list(document["truth"])
    for phase in found.phases:
        started, ended = map(unix, document["truth"][phase.name])
        assert phase.started == pytest.approx(started, abs=PRECISION_S), phase
        assert phase.ended == pytest.approx(ended, abs=PRECISION_S), phase


@pytest.mark.parametrize("path", TRACES, ids=lambda p: p.stem)
def test_at_least_95_percent_of_every_trace_is_in_phases_that_do_not_overlap(path: Path) -> None:
    found = split(read(path))
    assert found.attributed >= 0.95
    assert all(a.ended <= b.started for a, b in itertools.pairwise(found.phases))
    assert all(p.source for p in found.phases)


@pytest.mark.parametrize("path", TRACES, ids=lambda p: p.stem)
def test_a_ledger_survives_being_stored(path: Path) -> None:
    found = split(read(path))
    assert strict.decode(ColdStart, json.loads(json.dumps(strict.encode(found)))) == found


def test_the_kubelets_own_figure_tells_the_pull() -> None:
    pulled = trace("vllm-0.32-image-pulled")
    assert pulled.image_present is False
    assert pulled.image_pull_s == pytest.approx(55.722)


def test_an_image_that_is_on_the_node_is_no_pull() -> None:
    present = trace("vllm-0.32-image-present")
    assert present.image_present is True
    assert present.image_pull_s is None
    assert present.seconds()["image"] == 0


def test_a_phase_names_the_condition_the_event_or_the_line_that_told_it() -> None:
    told = {p.name: p.source for p in trace("vllm-0.32-image-pulled").phases}
    assert told["image"] == "event Pulling -> event Pulled"
    assert told["weights"] == "vllm log: Starting to load model -> vllm log: Loading weights took"
    assert told["ready"] == "vllm log: Application startup complete -> condition Ready"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("61ms (61ms including waiting)", 0.061),
        ("12.3s (13s including waiting)", 12.3),
        ("1m2.5s (3m1s including waiting)", 62.5),
        ("1h0m1s (1h0m1s including waiting)", 3601),
    ],
)
def test_a_pulls_length_is_gos_duration_without_the_wait_for_other_pulls(said: str, seconds: float) -> None:
    pulled = Event(reason="Pulled", at=at(3), message=f'Successfully pulled image "r" in {said}.')
    assert coldstart.ledger(POD, [pulled], []).image_pull_s == pytest.approx(seconds)


# Lines of engines of which no whole log with a server was found, or not of that kind of machine.
@pytest.mark.parametrize(
    ("text", "milestone"),
    [
        # https://github.com/vllm-project/vllm/pull/5649 (0.5.3, GPU)
        ("INFO 08-02 15:41:14 model_runner.py:731] Loading model weights took 13.5083 GB", "loaded"),
        ("INFO 08-02 15:41:16 gpu_executor.py:102] # GPU blocks: 54775, # CPU blocks: 4096", "inited"),
        ("INFO 08-02 15:41:30 model_runner.py:1219] Graph capturing finished in 13 secs.", "inited"),
        # https://github.com/pytorch/serve/pull/3343 (0.6.2, GPU)
        ("INFO 10-07 22:54:57 model_runner.py:1014] Starting to load model a/model...", "load"),
        # https://github.com/kubernetes-sigs/gateway-api-inference-extension/pull/550 (0.8, V0)
        (
            "INFO 03-21 20:15:46 [executor_base.py:111] # cuda blocks: 7191, # CPU blocks: 512",
            "inited",
        ),
        # https://github.com/kyuz0/amd-strix-halo-vllm-toolboxes/pull/5 (0.11)
        (
            "(EngineCore_0 pid=3) INFO 10-26 21:47:46 [gpu_model_runner.py:1975] Model loading took 7.6785 GiB",
            "loaded",
        ),
        # https://github.com/zai-org/GLM-V/issues/204 (0.11)
        (
            "(EngineCore_DP0 pid=1) INFO 10-21 09:12:04 [core.py:210] init engine (profile, create kv cache,"
            " warmup model) took 25.99 seconds",
            "inited",
        ),
    ],
)
def test_lines_of_other_versions_are_known(text: str, milestone: str) -> None:
    assert {line.milestone for line in enginelog.LINES if line.pattern.search(text)} == {"engine", milestone}


def at(second: float) -> str:
    """A stamp as Kubernetes writes it, `second` seconds after the pod was created."""
    return f"2026-03-01T10:{int(second) // 60:02d}:{second % 60:06.3f}Z"


def vllm(second: float, message: str) -> str:
    return f"{at(second)} (EngineCore pid=7) INFO 03-01 10:00:00 [core.py:1] {message}"


POD = PodTimes(
    created=at(0),
    conditions={
        "PodScheduled": at(1),
        "Initialized": at(1),
        "PodReadyToStartContainers": at(5),
        "Ready": at(100),
    },
    started=at(41),
)
EVENTS = (
    Event(reason="Scheduled", at=at(1)),
    Event(reason="SuccessfulAttachVolume", at=at(4), message="AttachVolume.Attach succeeded"),
    Event(reason="Pulling", at=at(5), message='Pulling image "r"', container="engine"),
    Event(
        reason="Pulled",
        at=at(40),
        message='Successfully pulled image "r" in 35s (35s including waiting)',
        container="engine",
    ),
    Event(reason="Created", at=at(40), container="engine"),
    Event(reason="Started", at=at(41), container="engine"),
)
LOG = (
    vllm(50, "vLLM API server version 0.20.0"),
    vllm(60, "Starting to load model a/model..."),
    vllm(75, "Loading weights took 14.1 seconds"),
    vllm(76, "Model loading took 17.62 GiB memory and 16.0 seconds"),
    vllm(90, "init engine (profile, create kv cache, warmup model) took 14.01 s"),
    f"{at(98)} INFO:     Application startup complete.",
)


def split_pod(pod: PodTimes = POD, events: Sequence[Event] = EVENTS, log: Sequence[str] = LOG) -> ColdStart:
    return coldstart.ledger(pod, events, log)


def test_all_of_a_start_with_all_its_witnesses_is_attributed() -> None:
    found = split_pod()
    assert found.attributed == 1
    assert found.seconds() == pytest.approx(
        {
            "schedule": 1,
            "volume": 3,
            "sandbox": 1,
            "image": 35,
            "start": 1,
            "engine_import": 9,
            "engine_setup": 10,
            "weights": 16,
            "engine_init": 14,
            "serve": 8,
            "ready": 2,
        }
    )
    assert not found.notes


def test_a_node_that_had_to_be_made_is_told_from_the_scheduler_at_work() -> None:
    late = dataclasses.replace(POD, conditions={**POD.conditions, "PodScheduled": at(3)})
    homeless = (
        Event(reason="FailedScheduling", at=at(1), message="0/1 nodes"),
        Event(reason="TriggeredScaleUp", at=at(2), message="pod triggered scale-up"),
    )
    found = split_pod(late, (*homeless, *EVENTS)).seconds()
    assert found["schedule"] == 1
    assert found["node"] == 2


def test_expired_events_leave_a_gap_that_is_not_swallowed() -> None:
    found = split_pod(events=())
    assert {"volume", "image", "start"}.isdisjoint(found.seconds())
    assert found.seconds()["sandbox"] == 4
    assert found.unattributed_s == pytest.approx(36)
    assert found.attributed == pytest.approx(0.64)
    assert found.image_present is None
    assert "no Pulled event" in found.notes[0]


def test_a_missing_log_leaves_the_engines_part_unattributed() -> None:
    found = split_pod(log=())
    assert found.unattributed_s == pytest.approx(59)
    assert "no line of the log was recognised" in found.notes[0]


def test_a_log_whose_words_changed_leaves_a_gap_and_no_wrong_phase() -> None:
    changed = [line.replace("Starting to load model", "Model load begins") for line in LOG]
    found = split_pod(log=changed)
    assert {"engine_setup", "weights"}.isdisjoint(found.seconds())
    assert found.unattributed_s == pytest.approx(26)


def test_a_log_that_has_lost_its_head_still_tells_the_rest() -> None:
    assert list(split_pod(log=LOG[4:]).seconds())[-2:] == ["serve", "ready"]


def test_an_image_that_is_present_costs_nothing() -> None:
    present = Event(
        reason="Pulled",
        at=at(5),
        message='Container image "r" already present on machine',
        container="engine",
    )
    found = split_pod(events=[e for e in EVENTS if e.reason not in ("Pulling", "Pulled")] + [present])
    assert found.seconds()["image"] == 0
    assert found.image_present is True


def test_the_last_volume_ends_the_attaching() -> None:
    second = Event(reason="SuccessfulAttachVolume", at=at(4.5), message="AttachVolume.Attach succeeded")
    assert split_pod(events=(*EVENTS, second)).seconds()["volume"] == pytest.approx(3.5)


def test_only_the_last_start_of_a_container_is_split() -> None:
    failed = [f"{at(44)} INFO 03-01 10:00:44 api_server.py:1] vLLM API server version 0.20.0"]
    found = split_pod(dataclasses.replace(POD, restarts=2, started=at(48)), log=[*failed, *LOG])
    assert found.seconds()["restarts"] == 8
    assert "start" not in found.seconds()
    assert found.seconds()["engine_import"] == 2
    assert found.notes == ("2 restarts: only the last start is split.",)


def test_a_container_that_waits_to_be_started_again_is_not_ready_and_has_no_last_start() -> None:
    waiting = dataclasses.replace(POD, restarts=2, started="", conditions={"PodScheduled": at(1)})
    found = split_pod(waiting, log=())
    assert "restarts" not in found.seconds()
    assert not found.ready


def test_a_phase_that_would_be_negative_has_length_zero() -> None:
    early = [dataclasses.replace(e, at=at(0)) if e.reason == "SuccessfulAttachVolume" else e for e in EVENTS]
    found = split_pod(events=early)
    assert found.seconds()["volume"] == 0
    assert found.attributed == 1


@pytest.mark.parametrize("behind", [30, 90, 3600])
def test_a_node_whose_clock_is_behind_makes_no_negative_phase(behind: int) -> None:
    ahead = datetime.fromtimestamp(unix(at(0)) + behind, tz=datetime.fromisoformat(at(0)).tzinfo)
    found = split_pod(dataclasses.replace(POD, created=ahead.isoformat()))
    assert found.total_s >= 0
    assert all(p.seconds >= 0 for p in found.phases)
    assert all(a.ended <= b.started for a, b in itertools.pairwise(found.phases))
    assert sum(p.seconds for p in found.phases) <= found.total_s


def test_clocks_that_contradict_each_other_are_told() -> None:
    found = split_pod(dataclasses.replace(POD, created=at(50)))
    assert "node and control plane differ in time" in found.notes[0]


def test_init_containers_are_a_phase_and_their_images_are_not_the_engines() -> None:
    inited = dataclasses.replace(POD, conditions={**POD.conditions, "Initialized": at(20)})
    others = (
        Event(reason="Pulling", at=at(5), message='Pulling image "i"', container="fetch"),
        Event(
            reason="Pulled",
            at=at(9),
            message='Successfully pulled image "i" in 4s (4s including waiting)',
            container="fetch",
        ),
    )
    later = [dataclasses.replace(e, at=at(20)) if e.reason == "Pulling" else e for e in EVENTS]
    found = split_pod(inited, (*others, *later))
    assert found.seconds()["init"] == 15
    assert found.seconds()["image"] == 20
    assert found.image_pull_s == 35


def test_a_cluster_before_1_29_has_no_sandbox_condition() -> None:
    old = {k: v for k, v in POD.conditions.items() if k != "PodReadyToStartContainers"}
    found = split_pod(dataclasses.replace(POD, conditions=old))
    assert found.seconds()["sandbox"] == 1
    assert found.attributed == 1


def test_the_first_answer_ends_the_ledger_when_it_is_known() -> None:
    found = coldstart.ledger(POD, EVENTS, LOG, first_token=unix(at(104)))
    assert found.total_s == pytest.approx(104)
    assert found.seconds()["first_token"] == pytest.approx(4)


def test_a_pod_that_is_not_ready_is_split_as_far_as_it_came() -> None:
    waiting = dataclasses.replace(POD, conditions={"PodScheduled": at(1)})
    found = split_pod(waiting, log=LOG[:3])
    assert not found.ready
    assert found.ended == pytest.approx(unix(at(75)))
    assert "the pod is not ready." in found.notes


def test_nothing_known_is_an_empty_ledger() -> None:
    found = coldstart.ledger(PodTimes(), [], [])
    assert (found.total_s, found.phases, found.attributed) == (0, (), 1)


def test_ranks_load_until_the_last_of_them_is_done() -> None:
    ranks = (*LOG[:4], vllm(80, "Model loading took 17.62 GiB memory and 20.0 seconds"), *LOG[4:])
    assert split_pod(log=ranks).seconds()["weights"] == pytest.approx(20)


def test_what_is_said_once_the_server_listens_changes_nothing() -> None:
    chatter = (*LOG, vllm(99, "Loading weights took 0.1 seconds"))
    assert split_pod(log=chatter) == split_pod()


@pytest.mark.parametrize(
    "odd", ["", "Starting to load model", "2026-03-01 10:00:20,123 Starting to load model"]
)
def test_a_line_without_a_stamp_is_passed_over(odd: str) -> None:
    assert split_pod(log=[odd, *LOG]) == split_pod()


def test_stamps_of_other_time_zones_are_understood() -> None:
    moved = [line.replace("T10:", "T18:", 1).replace("Z ", "+08:00 ", 1) for line in LOG]
    assert split_pod(log=moved) == split_pod()


def test_a_log_in_colours_is_read() -> None:
    # As text-generation-launcher prints on a terminal.
    dim, plain = "\x1b[2m", "\x1b[0m"
    coloured = f"{at(98)} {dim}text_generation_router::server{plain}{dim}:{plain} Connected{plain}"
    assert split_pod(log=(*LOG[:-1], coloured)).seconds() == split_pod().seconds()


def made(**seconds: float) -> ColdStart:
    ends = list(itertools.accumulate(seconds.values()))
    starts = [0.0, *ends[:-1]]
    phases = tuple(Phase(n, a, b, "") for n, a, b in zip(seconds, starts, ends, strict=True))
    return ColdStart(started=0, ended=ends[-1], ready=True, phases=phases, image_present=True)


def test_a_start_within_its_budget_passes() -> None:
    verdict = coldstart.budget(made(image=60, weights=40), 100)
    assert verdict.value == "PASS"


def test_a_start_over_its_budget_fails_and_names_the_longest_phases() -> None:
    verdict = coldstart.budget(made(image=60.5, weights=40, ready=0.2), 100)
    assert verdict.value == "FAIL"
    assert verdict.reasons == ("cold start: 101 s, at most 100 s wanted; longest: image 60 s, weights 40 s.",)


def test_what_is_in_no_phase_is_said_with_the_budget() -> None:
    verdict = coldstart.budget(split_pod(log=()), 170)
    assert "59 s are in no phase" in verdict.reasons[0]
    assert "no line of the log" in verdict.reasons[1]


def test_a_start_that_has_not_ended_proves_nothing_until_it_is_over_its_budget() -> None:
    waiting = dataclasses.replace(made(image=60), ready=False)
    assert coldstart.budget(waiting, 100).value == "INCONCLUSIVE"
    assert coldstart.budget(waiting, 50).value == "FAIL"


@pytest.mark.parametrize(
    ("found", "last", "flagged"),
    [
        (made(image=60, weights=40), made(image=60, weights=40), []),
        (made(image=60, weights=40), made(image=90, weights=80), []),
        (made(image=60, weights=47), made(image=60, weights=40), []),
        (made(weights=9), made(weights=4.5), []),
        (made(image=60, weights=49), made(image=60, weights=40), ["weights"]),
        (made(image=60, weights=65), made(image=60, weights=40), ["total", "weights"]),
        (made(node=90, weights=40), made(weights=40), ["total"]),
    ],
    ids=[
        "as before",
        "faster",
        "within tolerance",
        "noise",
        "a phase alone",
        "total too",
        "a phase of one only",
    ],
)
def test_a_start_is_flagged_by_20_percent_and_5_seconds(
    found: ColdStart, last: ColdStart, flagged: list[str]
) -> None:
    verdict = coldstart.regression(found, last)
    assert verdict.value == ("FAIL" if flagged else "PASS")
    said = [r.removeprefix("cold start: ").split()[0] for r in verdict.reasons] if flagged else []
    assert said == flagged


def test_a_regression_says_both_figures_and_that_the_image_had_to_be_pulled() -> None:
    pulled = dataclasses.replace(made(image=60, weights=40), image_present=False)
    assert coldstart.regression(pulled, made(image=1, weights=40)).reasons == (
        "cold start: total took 100 s, 41 s in the last release.",
        "cold start: image took 60 s, 1 s in the last release.",
        "cold start: the last release found its image on the node, this one pulled it.",
    )


def test_the_tolerance_is_the_callers() -> None:
    assert coldstart.regression(made(weights=65), made(weights=40), tolerance=1.0).value == "PASS"


def test_a_first_release_has_nothing_to_be_slower_than() -> None:
    assert coldstart.regression(made(weights=65), None).value == "PASS"


def test_ledgers_that_end_at_different_points_are_not_compared() -> None:
    waiting = dataclasses.replace(made(weights=65), ready=False)
    assert coldstart.regression(waiting, made(weights=40)).value == "INCONCLUSIVE"
    assert coldstart.regression(made(weights=65), waiting).value == "INCONCLUSIVE"
    assert coldstart.regression(made(weights=65, first_token=9), made(weights=40)).value == "INCONCLUSIVE"
