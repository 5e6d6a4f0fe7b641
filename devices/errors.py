"""Errors by disposition: what the caller should do about them, not where they arose.

`ConfigError`: a person must change something; never retried, exit code 2 at start. `TransientError`: the same call may
succeed later; the consumer that made it retries with back-off. `RejectedError`: this input is refused for good; it goes
to quarantine with its `Reason`. `PartialWriteError`: some points of a batch were refused for good, the others are
written.
"""

from devices.reasons import Reason


class SonghuaError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(SonghuaError):
    """A setting, profile, rule or file is wrong; the text says what, where and what was expected."""


class TransientError(SonghuaError):
    """The other side cannot take it now; `retry_after` is in seconds where the other side said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RejectedError(SonghuaError):
    """The input is refused for good."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class PartialWriteError(SonghuaError):
    """Points of a batch were refused for good: `rejected` maps the index in the batch to the store's words; all others
    are written.
    """

    def __init__(self, rejected: dict[int, str]) -> None:
        super().__init__(f"{len(rejected)} points refused")
        self.rejected = rejected
