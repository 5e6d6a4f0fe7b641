"""A gateway's memory of what is not acknowledged."""

import random

from simulators.outbox import LARGEST_LIST, Message, Outbox


def message(number: int, topic: str = "t") -> Message:
    return Message(topic, [b"%d" % number], number)


def waiting(outbox: Outbox) -> list[bytes]:
    taken = outbox.take(1_000_000)
    outbox.put_back(taken)
    return [element for each in taken for element in each.elements]


def test_what_is_taken_stays_until_it_is_confirmed() -> None:
    outbox = Outbox()
    for number in range(4):
        outbox.add(message(number))
    first, second = outbox.take(2)
    assert (len(outbox), outbox.oldest) == (4, 0)
    outbox.confirm(first)
    outbox.put_back([second])
    assert (len(outbox), outbox.oldest) == (3, 1)
    assert waiting(outbox) == [b"1", b"2", b"3"]


def test_a_full_outbox_drops_the_oldest_and_counts_it_but_nothing_in_flight() -> None:
    outbox = Outbox(limit=3)
    outbox.add(message(0))
    flying = outbox.take(1)
    for number in range(1, 6):
        outbox.add(message(number))
    assert outbox.dropped == 3
    assert len(outbox) == 3
    outbox.put_back(flying)
    assert waiting(outbox) == [b"0", b"4", b"5"]


def test_merging_keeps_every_reading_and_each_devices_order() -> None:
    chance = random.Random(5)
    outbox = Outbox()
    sent: dict[str, list[bytes]] = {}
    for number in range(1_500):
        each = message(number, topic=f"device-{chance.randrange(4)}")
        sent.setdefault(each.topic, []).extend(each.elements)
        outbox.add(each)
    outbox.merge()
    merged = outbox.take(10_000)
    assert all(len(each.elements) <= LARGEST_LIST for each in merged)
    assert len(merged) <= 12
    received: dict[str, list[bytes]] = {}
    for each in merged:
        received.setdefault(each.topic, []).extend(each.elements)
    assert received == sent
    assert len(outbox) == 1_500


def test_one_reading_is_an_object_and_several_are_a_list() -> None:
    assert message(1).payload == b"1"
    assert Message("t", [b"1", b"2"], 1).payload == b"[1,2]"
