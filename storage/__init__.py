"""What lasts: journal, cursors, quarantine, telemetry stores, and the relational metadata of all rooms."""
