"""Benchmarks of geoenc: what it reaches and how fast, measured by commands that anyone can run."""
