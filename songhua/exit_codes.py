"""Exit codes of every command."""

DONE = 0
FAILED = 1  # failed, unhealthy or not found
CONFIG = 2  # a person must change something; one line on stderr says what
