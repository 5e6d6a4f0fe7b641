"""New, late, repeated, contradicting: what becomes of readings that do not come once and in order."""

from devices.catalogue import load
from devices.model import Device, Reading
from ingest.order import SeriesOrder

_METER = load().values_class("water_meter")
_DEVICE = Device(
    id="wm-1", family="water_meter", profile="songhua/wm-15", district="230102", zone="z", gateway="g", interval=1000
)


def reading(time: int, **values: float) -> Reading:
    return Reading(_DEVICE, time, _METER(**values), time, "g")  # type: ignore[call-arg]


def test_readings_in_order_are_written_and_none_is_late() -> None:
    decided = SeriesOrder().sort([reading(1, flow_rate=1), reading(2, flow_rate=1)])
    assert (len(decided.write), len(decided.late), decided.duplicate, decided.conflicts) == (2, 0, 0, [])


def test_a_reading_behind_its_own_series_is_late_and_still_written() -> None:
    decided = SeriesOrder().sort([reading(10, flow_rate=1), reading(5, flow_rate=1)])
    assert (len(decided.write), len(decided.late)) == (2, 1)


def test_within_the_lateness_allowed_nothing_is_late() -> None:
    order = SeriesOrder(lateness=5)
    assert not order.sort([reading(10, flow_rate=1), reading(5, flow_rate=1)]).late
    assert order.sort([reading(4, flow_rate=1)]).late == {0}


def test_a_repetition_is_a_duplicate_wherever_it_stands() -> None:
    order = SeriesOrder()
    order.sort([reading(1, flow_rate=1), reading(2, flow_rate=2)])
    decided = order.sort([reading(1, flow_rate=1), reading(2, flow_rate=2)])
    assert (decided.write, decided.duplicate, len(decided.late)) == ([], 2, 0)


def test_another_value_for_the_same_instant_wins_and_the_first_is_kept_as_a_conflict() -> None:
    order = SeriesOrder()
    first = reading(1, flow_rate=1)
    decided = order.sort([first, reading(1, flow_rate=2)])
    assert len(decided.write) == 2
    assert decided.conflicts == [first]


def test_more_properties_for_the_same_instant_are_no_conflict() -> None:
    decided = SeriesOrder().sort([reading(1, flow_rate=1), reading(1, pressure=0.3)])
    assert (len(decided.write), decided.conflicts, decided.duplicate) == (2, [], 0)


def test_what_was_forgotten_counts_as_late_and_is_written_again() -> None:
    order = SeriesOrder(remembered=4)
    order.sort([reading(1, flow_rate=1)])
    for time in range(2, 12):
        order.sort([reading(time, flow_rate=1)])
    decided = order.sort([reading(1, flow_rate=1)])
    assert (len(decided.write), len(decided.late), decided.duplicate) == (1, 1, 0)


def test_a_snapshot_keeps_the_watermarks() -> None:
    order, again = SeriesOrder(), SeriesOrder()
    order.sort([reading(10, flow_rate=1)])
    again.restore(order.snapshot())
    assert again.sort([reading(9, flow_rate=1)]).late == {0}
