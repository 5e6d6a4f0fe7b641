"""The closed list of reasons for which a message or element goes to quarantine; bounded, so that it can be a metric
label.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Reason codes; the label of `songhua_readings_quarantined_total` and the key of `quarantined_by_reason`."""

    malformed = "malformed"  # not JSON / CBOR at all, or not the shape the codec expects
    invalid_value = "invalid_value"  # wrong type, integer above 2^53, text where a number is expected
    out_of_range = "out_of_range"  # nothing left after values outside their physical range were dropped
    no_values = "no_values"  # well formed, but reports no property of its profile
    unknown_device = "unknown_device"  # no registration and no profile matches the payload
    unknown_topic = "unknown_topic"  # matches no source
    identity_mismatch = "identity_mismatch"  # payload claims another device than its topic
    invalid_topic = "invalid_topic"  # empty levels, wildcards, NUL, too long, not an identifier
    too_large = "too_large"  # payload above the limit
    history_too_long = "history_too_long"  # a list with more elements than the limit
    store_rejected = "store_rejected"  # the telemetry store refused the point for good
    damaged_record = "damaged_record"  # a journal record failed its CRC
