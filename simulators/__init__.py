"""A city that behaves: inventory, waveforms, incidents with their ground truth, gateways, load, replay of recordings.

Knows only `devices`. Every value is a pure function of the device, the seed, the incidents and the time, so that
history, live readings and a second run agree.
"""
