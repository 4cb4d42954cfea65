from __future__ import annotations

import threading

from soundstage.tracking.door import MAX_METRICS, MetricSample
from soundstage.tracking.writer import _MAX_WAITING, MetricWriter


def _samples(first: int, count: int) -> list[MetricSample]:
    return [MetricSample("loss", float(step), 0, step) for step in range(first, first + count)]


def test_all_values_arrive_in_order_and_in_parts_of_the_limit() -> None:
    parts: list[list[MetricSample]] = []

    def send(part: list[MetricSample]) -> bool:
        parts.append(part)
        return True

    writer = MetricWriter(send, every_sec=0.01)
    for step in range(3333):
        writer.put(_samples(step, 1))
    assert writer.close() == 0
    assert [s.step for part in parts for s in part] == list(range(3333))
    assert max(map(len, parts)) <= MAX_METRICS


def test_values_are_sent_while_the_stage_still_runs() -> None:
    sent = threading.Event()

    def send(part: list[MetricSample]) -> bool:
        sent.set()
        return bool(part)

    writer = MetricWriter(send, every_sec=0.01)
    writer.put(_samples(0, 1))
    assert sent.wait(30)
    writer.close()


def test_a_part_that_failed_is_sent_again_in_order() -> None:
    stored: list[int] = []
    refusals: list[int] = []
    refused_twice = threading.Event()

    def send(part: list[MetricSample]) -> bool:
        if len(refusals) < 2:
            refusals.append(len(part))
            if len(refusals) == 2:
                refused_twice.set()
            return False
        stored.extend(s.step for s in part)
        return True

    writer = MetricWriter(send, every_sec=0.01)
    writer.put(_samples(0, 30))
    assert refused_twice.wait(30)
    writer.put(_samples(30, 20))
    assert writer.close() == 0
    assert stored == list(range(50))


def test_what_never_could_be_sent_is_counted() -> None:
    writer = MetricWriter(lambda part: False, every_sec=0.01)
    writer.put(_samples(0, _MAX_WAITING + 7))
    writer.put(_samples(0, 5))
    assert writer.close() == _MAX_WAITING + 12


def test_values_that_made_room_while_their_part_was_on_its_way_are_not_counted_as_lost() -> None:
    started, go_on = threading.Event(), threading.Event()
    stored: list[int] = []

    def send(part: list[MetricSample]) -> bool:
        started.set()
        go_on.wait(30)
        stored.extend(s.step for s in part)
        return True

    writer = MetricWriter(send, every_sec=0.01)
    writer.put(_samples(0, MAX_METRICS))
    assert started.wait(30)
    writer.put(_samples(MAX_METRICS, _MAX_WAITING))
    go_on.set()
    assert writer.close() == 0
    assert stored == list(range(_MAX_WAITING + MAX_METRICS))
