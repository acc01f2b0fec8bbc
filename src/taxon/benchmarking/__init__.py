"""Benchmarking: how fast models answer here, in each format, and which fit a latency budget."""

from taxon.benchmarking.result import Absent, Benchmark, Measurement, Subject

__all__ = ["Absent", "Benchmark", "Measurement", "Subject"]
