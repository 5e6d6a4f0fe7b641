"""What lasts: journal, cursors, quarantine, telemetry stores, and the relational metadata that every room hangs its tables on."""
