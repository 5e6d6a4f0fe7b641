"""MQTT session -> journal -> decode -> normalise -> independent consumers."""
