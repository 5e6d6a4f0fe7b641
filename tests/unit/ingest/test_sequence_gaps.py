"""Numbers that a device sent and nobody received."""

from devices.model import DecodedBatch, Device, Reading
from devices.profile import load_profiles
from ingest.sequence_gaps import GRACE, MISSING_PER_DEVICE, SequenceGaps

_WIRE = load_profiles()["songhua/wm-15"].wire
_DEVICE = Device(
    id="wm-1", family="water_meter", profile="songhua/wm-15", district="230102", zone="z", gateway="g", interval=1000
)


def observe(gaps: SequenceGaps, *numbers: int, boot: str = "a", now: int = 0) -> None:
    readings = [
        Reading(_DEVICE, number, _WIRE(flow_rate=1.0, seq=number, boot_id=boot), now, "g")  # type: ignore[call-arg]
        for number in numbers
    ]
    gaps.observe(DecodedBatch(1, 1, now, 1, readings, [], []))


def test_a_gap_is_missing_at_once_and_lost_after_the_grace_period() -> None:
    gaps = SequenceGaps()
    observe(gaps, 1, 2, 5)
    assert (gaps.missing, gaps.lost) == (2, 0)
    observe(gaps, 6, now=GRACE)
    assert (gaps.missing, gaps.lost) == (0, 2)


def test_what_arrives_late_is_not_lost() -> None:
    gaps = SequenceGaps()
    observe(gaps, 1, 4, 3, 2, 4)
    observe(gaps, 5, now=GRACE)
    assert (gaps.missing, gaps.lost) == (0, 0)


def test_a_new_boot_begins_a_new_numbering() -> None:
    gaps = SequenceGaps()
    observe(gaps, 900, 901)
    observe(gaps, 1, 2, boot="b")
    assert (gaps.missing, gaps.lost) == (0, 0)


def test_a_huge_gap_is_counted_but_not_remembered_whole() -> None:
    gaps = SequenceGaps()
    observe(gaps, 1, 1_000_002)
    assert gaps.missing == MISSING_PER_DEVICE
    assert gaps.missing + gaps.lost == 1_000_000
