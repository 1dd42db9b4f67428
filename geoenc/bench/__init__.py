"""Tasks with known answers, and what each location encoder scores in them.

``geoenc bench --list`` names them; `geoenc.bench.engine` is behind the command.
"""

from geoenc.bench.engine import Plan, plan, run
from geoenc.bench.entries import Entry, entries
from geoenc.bench.load import TaskFile, list_tasks, load_task
from geoenc.bench.parts import Part, Parts, Split, parts_of, split_of
from geoenc.bench.settings import Settings, read_settings, standard_entries
from geoenc.bench.task import Task

__all__ = [
    "Entry",
    "Part",
    "Parts",
    "Plan",
    "Settings",
    "Split",
    "Task",
    "TaskFile",
    "entries",
    "list_tasks",
    "load_task",
    "parts_of",
    "plan",
    "read_settings",
    "run",
    "split_of",
    "standard_entries",
]
