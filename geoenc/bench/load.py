"""Tasks from their files: which there are, and what each needs."""

import difflib
import inspect
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc._optional import require
from geoenc.bench.files import PART_NUMBERS
from geoenc.bench.generated import GENERATED
from geoenc.bench.task import METRICS, Task
from geoenc.data import DatasetNotFoundError

TASKS = Path(__file__).with_name("tasks")
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@dataclass(frozen=True)
class TaskFile:
    """What the file of a task says.

    Args:
        name: of the task: that of the file.
        about: what is asked, in one sentence.
        metric: see `geoenc.bench.Task`.
        file: under the folder of data; empty: the task is generated.
        target: column of the answers.
        generator: function of `geoenc.bench.generated.GENERATED`; the table ``parameters`` has
            its arguments.
        block_degrees: side of the blocks of the blocked split.
        one_row_per: column; of the rows with one value the first is kept.
        place: column with the number of the place, if there is one.
        where: rows that are kept: ``[[column, comparison, value], ...]``.
        split, blocked: columns with the fixed parts, if there are any.
        names: column with the names of the classes.
        classify: whether numbers are classes; None: whole numbers and names are.
        control: whether place should not help.
        quick: whether the task is in the quick part of the suite.
        protocols: which can be asked of it; none: all.
        licence, url, reported: to be recorded with the results.
        home: folder of a file of one's own, in which its data may lie, too.
    """

    name: str
    about: str
    metric: str
    file: str = ""
    target: str = ""
    generator: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    block_degrees: float = 5.0
    one_row_per: str = ""
    place: str = "loc_id"
    where: tuple[tuple[str, str, Any], ...] = ()
    split: str = ""
    blocked: str = ""
    names: str = ""
    classify: bool | None = None
    control: bool = False
    quick: bool = False
    protocols: tuple[str, ...] = ()
    licence: str = ""
    url: str = ""
    reported: Mapping[str, Any] = field(default_factory=dict)
    home: Path | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(
                f"expected metric of {', '.join(METRICS)} in task {self.name!r}, got "
                f"{self.metric!r}; use one"
            )
        if not self.generator and not (self.file and self.target):
            raise ValueError(
                f"expected a generator, or file and target, in task {self.name!r}, got neither; "
                "name one"
            )

    def path(self, data: str | os.PathLike[str] | None) -> Path | None:
        """Where the data are, or None: not there, or not known where to look."""
        folders = [one for one in (data_folder(data), self.home) if one is not None]
        paths = [folder / self.file for folder in folders if self.file]
        return next((path for path in paths if path.exists()), None)

    def needs(self, data: str | os.PathLike[str] | None) -> str:
        """What is missing; empty: nothing."""
        return self.file if self.file and self.path(data) is None else ""


def data_folder(data: str | os.PathLike[str] | None) -> Path | None:
    """The folder of data: the given one, or that of the environment variable GEOENC_SHARED."""
    given = data or os.environ.get("GEOENC_SHARED")
    return None if given is None else Path(given)


def list_tasks() -> list[TaskFile]:
    """All tasks that come with geoenc, by name.

    Example:
        >>> from geoenc.bench import list_tasks
        >>> "checkerboard" in [task.name for task in list_tasks()]
        True
    """
    return [read_task(path) for path in sorted(TASKS.glob("*.toml"))]


def find_task(name: str) -> TaskFile:
    """The task of this name, or of this ``.toml`` file.

    Raises:
        ValueError: there is none; near names are listed.
    """
    if name.endswith(".toml"):
        return replace(read_task(Path(name)), home=Path(name).resolve().parent)
    path = TASKS / f"{name}.toml"
    if path.is_file():
        return read_task(path)
    known = [one.stem for one in sorted(TASKS.glob("*.toml"))]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    close += [one for one in known if name in one and one not in close]
    raise ValueError(
        f"expected the name of a task, got {name!r}; "
        + (f"did you mean {', '.join(close)}? " if close else "")
        + "geoenc bench --list names all"
    )


def read_task(path: Path) -> TaskFile:
    """One file; keys that are not known are errors."""
    if not path.is_file():
        raise ValueError(f"expected a file of a task, got {path}, which is not there; check it")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"expected TOML in {path}, got {error}; correct that line") from error
    known = [name for name in TaskFile.__dataclass_fields__ if name not in ("name", "home")]
    unknown = [key for key in table if key not in known]
    missing = [key for key in ("about", "metric") if key not in table]
    if unknown or missing:
        raise ValueError(
            f"expected keys of {', '.join(known)} in {path}, got "
            f"{', '.join(unknown) or 'no ' + missing[0]}; correct it"
        )
    table["where"] = tuple(tuple(one) for one in table.get("where", ()))
    table["protocols"] = tuple(table.get("protocols", ()))
    return TaskFile(name=path.stem, **table)


def load_task(name: str, data: str | os.PathLike[str] | None = None) -> Task:
    """A task with its places and answers.

    Args:
        name: of `list_tasks`, or a ``.toml`` file of one's own.
        data: folder of data; None: that of the environment variable GEOENC_SHARED. The data of
            a file of one's own may also lie beside it.

    Raises:
        DatasetNotFoundError: the data are not there; says which file, and what to do.
        ValueError: no such task, or columns that are not there.

    Example:
        >>> from geoenc.bench import load_task
        >>> load_task("checkerboard").classes
        16
    """
    file = find_task(name)
    source = {"licence": file.licence, "url": file.url, "reported": dict(file.reported)}
    if missing := file.needs(data):
        folder = data_folder(data) or file.home
        where = "no folder of data" if folder is None else f"nothing of that name in {folder}"
        raise DatasetNotFoundError(
            f"expected {missing} for task {file.name!r}, got {where}; these data are not part of "
            "geoenc: put them into a folder and give it with --data (data=), or set GEOENC_SHARED"
        )
    if file.generator:
        made = _generated(file, data)
        return replace(
            made,
            name=file.name,
            about=file.about or made.about,
            control=file.control or made.control,
            source={**source, **made.source},
        )
    path = file.path(data)
    assert path is not None
    return _from_table(file, _rows(path), {**source, "file": file.file})


def _generated(file: TaskFile, data: str | os.PathLike[str] | None) -> Task:
    if file.generator not in GENERATED:
        raise ValueError(
            f"expected a generator of {', '.join(GENERATED)} in task {file.name!r}, got "
            f"{file.generator!r}; use one"
        )
    function = GENERATED[file.generator]
    given = dict(file.parameters)
    if "data" in inspect.signature(function).parameters:
        given["data"] = data_folder(data)
    return function(**given)


def _rows(path: Path) -> Any:
    import pandas as pd

    if path.suffix == ".csv":
        return pd.read_csv(path)
    require("pyarrow", extra="scale")
    return pd.read_parquet(path)


def _from_table(file: TaskFile, frame: Any, source: Mapping[str, Any]) -> Task:
    wanted = [file.target, file.one_row_per, file.split, file.blocked, file.names]
    wanted += ["lon", "lat", *(column for column, _, _ in file.where)]
    absent = [column for column in wanted if column and column not in frame]
    if absent:
        raise ValueError(
            f"expected columns {', '.join(absent)} in {file.file} for task {file.name!r}, got "
            f"{', '.join(frame.columns)}; correct the task or the file"
        )
    for column, comparison, value in file.where:
        frame = frame[COMPARE[comparison](frame[column], value)]
    known = frame[file.target].notna() & frame["lon"].notna() & frame["lat"].notna()
    frame = frame[known]
    if file.one_row_per:
        frame = frame.drop_duplicates(file.one_row_per)
    if not len(frame):
        raise ValueError(
            f"expected rows with places and {file.target} in {file.file}, got none; check the file"
        )
    target, classes, names = _answers(file, frame)
    fixed = {
        name: _parts(frame[column], file)
        for name, column in (("random", file.split), ("blocked", file.blocked))
        if column
    }
    place = None
    if file.place in frame:
        place = torch.from_numpy(frame[file.place].to_numpy(dtype="int64", copy=True))
    return Task(
        name=file.name,
        lonlat=torch.from_numpy(frame[["lon", "lat"]].to_numpy(dtype="float64", copy=True)),
        target=target,
        classes=classes,
        metric=file.metric,
        place=place,
        block_degrees=file.block_degrees,
        class_names=names,
        fixed=fixed,
        control=file.control,
        about=file.about,
        source=source,
    )


def _answers(file: TaskFile, frame: Any) -> tuple[Tensor, int, tuple[str, ...]]:
    """Numbers, or classes counted from 0 in the order of their names or numbers."""
    column = frame[file.target]
    if str(column.dtype) == "category":
        column = column.astype(column.cat.categories.dtype)
    values = column.to_numpy()
    classify = file.metric != "r2" if file.classify is None else file.classify
    if not classify:
        return torch.from_numpy(values.astype("float64")), 0, ()
    if values.dtype.kind not in "iub":
        values = values.astype(str)
    kinds, first, target = np.unique(values, return_index=True, return_inverse=True)
    shown = frame[file.names].astype(str).to_numpy()[first] if file.names else kinds
    return torch.from_numpy(target.reshape(-1)), len(kinds), tuple(str(one) for one in shown)


def _parts(column: Any, file: TaskFile) -> Tensor:
    known = column.astype(str).map(PART_NUMBERS)
    if known.isna().any():
        raise ValueError(
            f"expected train, val or test in column {column.name} of {file.file}, got "
            f"{sorted(set(column.astype(str)) - set(PART_NUMBERS))}; correct the file"
        )
    return torch.from_numpy(known.to_numpy(dtype="int64", copy=True))
