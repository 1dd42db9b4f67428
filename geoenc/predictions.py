"""Predictions sample by sample, in a Parquet file from which every metric can be computed."""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoenc._files import atomic_path
from geoenc._optional import require
from geoenc.metrics import class_means, target_rank

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was said of each sample: rank and probability of the right class, and the top k.

    Args:
        sample: what names a sample in every file, row numbers or strings.
        target: the right class.
        rank: of the right class, from 1 to Q; ties count against it, and a row of NaN is last.
        image_prob, place_prob, product_prob: P(y | image), P(y | place) and the normalised scores
            of the right class; NaN where unknown.
        classes: the k classes of the highest scores, of equal ones those with lower numbers
            first; -1 for a row of NaN.
        scores: theirs, in log space.
        lonlat: where the sample is; NaN where unknown.
        num_classes: Q, how many classes.

    Shape:
        sample, target, rank and probabilities ``(N,)``, lonlat ``(N, 2)``, classes and scores
        ``(N, k)``.

    Example:
        >>> import torch
        >>> from geoenc.predictions import Predictions
        >>> image = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]])
        >>> made = Predictions.of(image.log(), torch.tensor([2, 0]), image_probs=image, top_k=2)
        >>> made.classes
        tensor([[1, 2],
                [0, 1]])
        >>> made.metrics(top_k=(1, 2))
        {'top1': 0.5, 'top2': 1.0, 'mrr': 0.75, 'macro_top1': 0.5}
    """

    sample: Tensor | tuple[str, ...]
    target: Tensor
    rank: Tensor
    image_prob: Tensor
    place_prob: Tensor
    product_prob: Tensor
    classes: Tensor
    scores: Tensor
    lonlat: Tensor
    num_classes: int

    @classmethod
    def of(
        cls,
        scores: Tensor,
        target: Tensor,
        *,
        sample: Tensor | Sequence[str] | None = None,
        lonlat: Tensor | None = None,
        image_probs: Tensor | None = None,
        location_probs: Tensor | None = None,
        top_k: int = 10,
    ) -> "Predictions":
        """Keep what metrics need of scores for all classes.

        Args:
            scores: in log space, as `geoenc.priors.GeoPrior` gives them; the logarithm of the
                probabilities where the image or the place is judged alone.
            target: the right class of each sample.
            sample: names; row numbers if None.
            lonlat: places.
            image_probs, location_probs: the factors.
            top_k: how many classes to keep.

        Shape:
            scores and probabilities ``(N, Q)``, target ``(N,)``, lonlat ``(N, 2)``.
        """
        if top_k < 1:
            raise ValueError(f"expected top_k of at least 1, got {top_k}")
        rows, num_classes = scores.shape
        if len(target) > 0 and not 0 <= int(target.min()) <= int(target.max()) < num_classes:
            raise ValueError(
                f"expected classes from 0 to {num_classes - 1}, as scores has columns, got "
                f"{target.min().item()} to {target.max().item()}; leave out samples without a label"
            )
        unknown = torch.full((rows,), torch.nan, dtype=torch.float64)
        if sample is None:
            sample = torch.arange(rows)
        classes, best = _highest(scores, min(top_k, num_classes))
        return cls(
            sample=sample if isinstance(sample, Tensor) else tuple(sample),
            target=target,
            rank=target_rank(scores, target),
            image_prob=unknown if image_probs is None else _right(image_probs, target),
            place_prob=unknown if location_probs is None else _right(location_probs, target),
            product_prob=_right(scores.double().softmax(-1), target),
            classes=classes,
            scores=best,
            lonlat=unknown[:, None].expand(-1, 2) if lonlat is None else lonlat.double(),
            num_classes=num_classes,
        )

    def __post_init__(self) -> None:
        lengths = {
            name: len(column)
            for name, column in vars(self).items()
            if isinstance(column, Tensor | tuple)
        }
        if len(set(lengths.values())) > 1:
            raise ValueError(f"expected columns of one length, got {lengths}")
        names = self.sample.tolist() if isinstance(self.sample, Tensor) else self.sample
        if len(set(names)) < len(names):
            raise ValueError(
                f"expected a name for each sample, got {len(set(names))} names for {len(names)} "
                "samples; number them"
            )

    def __len__(self) -> int:
        return len(self.target)

    @staticmethod
    def cat(parts: Sequence["Predictions"]) -> "Predictions":
        """The samples of several parts, for data that are judged chunk by chunk.

        Args:
            parts: with the same number of classes, and samples named apart.
        """
        gathered = Gathered(sum(len(part) for part in parts))
        for part in parts:
            gathered.add(part)
        return gathered.whole()

    def hits(self, k: int = 1) -> Tensor:
        """Whether the right class is among the k highest, ``(N,)`` booleans."""
        if k < 1:
            raise ValueError(f"expected k of at least 1, got {k}")
        return (self.rank <= k) & (self.classes[:, 0] >= 0)

    def class_accuracy(self, k: int = 1) -> Tensor:
        """Top-k accuracy of each class, ``(Q,)``; NaN for classes without samples."""
        return class_means(self.hits(k), self.target, self.num_classes)

    def metrics(self, top_k: Sequence[int] = (1, 3, 5, 10)) -> dict[str, float]:
        """Accuracies, mean reciprocal rank, and top-1 averaged over classes; shares in [0, 1]."""
        found = {f"top{k}": self.hits(k).double().mean().item() for k in top_k}
        found["mrr"] = (1 / self.rank.double()).mean().item()
        found["macro_top1"] = self.class_accuracy().nanmean().item()
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file, whole or not at all.

        Columns: ``sample``, ``lon``, ``lat``, ``target``, ``rank``, ``image_prob``,
        ``place_prob``, ``product_prob``, and the lists ``classes`` and ``scores``.
        """
        pyarrow = require("pyarrow", extra="scale")
        parquet = require("pyarrow.parquet", extra="scale")
        columns = {
            "sample": self.sample.cpu().numpy() if isinstance(self.sample, Tensor) else self.sample,
            "lon": self.lonlat[:, 0].cpu().numpy(),
            "lat": self.lonlat[:, 1].cpu().numpy(),
            **{name: getattr(self, name).cpu().numpy() for name in _NUMBERS},
            **{name: _lists(pyarrow, getattr(self, name)) for name in _LISTS},
        }
        metadata = {"geoenc": json.dumps({"format": _FORMAT, "num_classes": self.num_classes})}
        table = pyarrow.table(columns).replace_schema_metadata(metadata)
        with atomic_path(path) as temporary:
            parquet.write_table(table, temporary, compression="zstd")

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Predictions":
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a file of predictions.
        """
        pyarrow = require("pyarrow", extra="scale")
        parquet = require("pyarrow.parquet", extra="scale")
        with open(path, "rb"):
            pass  # the error of a missing file, in the words of the system
        try:
            table = parquet.read_table(path)
            metadata = json.loads(table.schema.metadata[b"geoenc"])
            names = table["sample"]
            rows = table.num_rows
            columns: dict[str, Any] = {
                name: _tensor(table[name].to_numpy()) for name in _NUMBERS
            } | {
                name: _tensor(table[name].combine_chunks().flatten().to_numpy()).reshape(
                    rows, table.schema.field(name).type.list_size
                )
                for name in _LISTS
            }
            lonlat = [_tensor(table[name].to_numpy()) for name in ("lon", "lat")]
            sample = (
                tuple(names.to_pylist())
                if pyarrow.types.is_string(names.type)
                else _tensor(names.to_numpy())
            )
        except (pyarrow.ArrowInvalid, AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"expected predictions that geoenc saved in {str(path)!r}, got another or a "
                f"damaged file ({error}); make it with geoenc.predictions.Predictions.save"
            ) from error
        return Predictions(
            sample=sample,
            lonlat=torch.stack(lonlat, -1),
            num_classes=metadata["num_classes"],
            **columns,
        )


class Gathered:
    """Predictions that come chunk by chunk, in columns laid out at the first.

    Nothing of a chunk is kept, so no small tensor lies between large matrices of scores and keeps
    the memory of these from being used again.

    Args:
        samples: how many there will be.

    Example:
        >>> import torch
        >>> from geoenc.predictions import Gathered, Predictions
        >>> gathered = Gathered(3)
        >>> gathered.add(Predictions.of(torch.tensor([[0.6, 0.4]]).log(), torch.tensor([0])))
        >>> gathered.add(Predictions.of(torch.ones(2, 2), torch.tensor([0, 1]), sample=("a", "b")))
        Traceback (most recent call last):
        ValueError: expected samples named by numbers, as before, got strings; name all alike
    """

    def __init__(self, samples: int) -> None:
        self.samples, self.filled = samples, 0
        self._columns: dict[str, Any] = {}

    def add(self, part: Predictions) -> None:
        """Put the next samples behind the others."""
        new = {one.name: getattr(part, one.name) for one in dataclasses.fields(part)}
        if not self._columns:
            self._columns = {name: self._laid_out(value) for name, value in new.items()}
        if new["num_classes"] != self._columns["num_classes"]:
            raise ValueError(
                f"expected {self._columns['num_classes']} classes, as before, got "
                f"{new['num_classes']}; judge all samples among the same classes"
            )
        if isinstance(new["sample"], Tensor) != isinstance(self._columns["sample"], Tensor):
            kinds = ("numbers", "strings")[:: 1 if isinstance(new["sample"], tuple) else -1]
            raise ValueError(
                f"expected samples named by {kinds[0]}, as before, got {kinds[1]}; name all alike"
            )
        stop = self.filled + len(part)
        if stop > self.samples:
            raise ValueError(f"expected {self.samples} samples in all, got {stop}; tell how many")
        for name, value in new.items():
            if isinstance(value, Tensor):
                self._columns[name][self.filled : stop] = value
            elif isinstance(value, tuple):
                self._columns[name] += value
        self.filled = stop

    def whole(self) -> Predictions:
        """All samples; an error before the last has come."""
        if self.filled < self.samples or not self._columns:
            raise ValueError(
                f"expected {self.samples} samples, at least one part, got {self.filled}"
            )
        return Predictions(**self._columns)

    def _laid_out(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.new_empty((self.samples, *value.shape[1:]))
        return () if isinstance(value, tuple) else value


_NUMBERS = ("target", "rank", "image_prob", "place_prob", "product_prob")
_LISTS = ("classes", "scores")


def _right(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(-1, target[:, None])[:, 0].double()


def _highest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest scores and their classes; of equal scores the lower classes come first."""
    broken = scores.isnan().any(-1, keepdim=True)
    known = scores.double().masked_fill(broken, -torch.inf)
    last = known.topk(k).values[:, -1:]
    above, level = known > last, known == last
    room = k - above.sum(-1, keepdim=True)
    chosen = (above | (level & (level.cumsum(-1) <= room))).nonzero()[:, 1].reshape(-1, k)
    best, order = known.gather(-1, chosen).sort(dim=-1, descending=True, stable=True)
    classes = chosen.gather(-1, order).masked_fill(broken, -1)
    return classes, best.masked_fill(broken, torch.nan)


def _lists(pyarrow: Any, values: Tensor) -> Any:
    flat = pyarrow.array(values.cpu().numpy().ravel())
    return pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(values.copy())
