"""Measurements of what DESIGN promises: throughput, latency, cost per stage. Figures are ratios within one run."""
