"""From readings to alarms: the rule language, packs, the event-time engine, the alarm life cycle and notifications."""
