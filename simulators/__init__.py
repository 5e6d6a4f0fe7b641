"""A city that behaves, misbehaves and keeps the ground truth: fleets, waveforms, incidents and the replay of recordings."""
