"""Errors of the data floor."""

from __future__ import annotations


class DatasetNotFoundError(FileNotFoundError):
    """A file of a dataset is not where it was looked for; nothing is ever downloaded silently."""
