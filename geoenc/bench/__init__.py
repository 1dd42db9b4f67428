"""Tasks with known answers, and what each location encoder scores in them.

``geoenc bench --list`` names them; `geoenc.bench.run` is behind the command.
"""

from geoenc.bench.task import Task

__all__ = ["Task"]
