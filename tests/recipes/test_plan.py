"""What a dry run says, against what the run then does."""

import re

import pytest
import torch

from geoenc import LocationClassifier, cli
from geoenc.data import make_published
from geoenc.encoder import LocationEncoder
from geoenc.recipes import engine, study
from geoenc.recipes.config import for_method, load_config
from geoenc.recipes.plan import _saved_bytes, plan

SETTINGS = [
    "encoder.position.num_frequencies=4",
    "encoder.network.out_features=16",
    "encoder.network.hidden_features=32",
    "pretrain.epochs=3",
    "pretrain.batch_size=64",
    "finetune.epochs=2",
    "finetune.batch_size=64",
    "joint.epochs=2",
    "table.seeds=2",
    "table.fractions=[0.2, 1.0]",
    'table.methods=["Image only", "MSE", "Kernel density", "Tang et al. (gps)"]',
    "hardware.accelerator=cpu",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fmow")
    make_published("fmow", folder, num_samples=300, generator=torch.Generator().manual_seed(0))
    return folder


def test_the_steps_that_are_planned_are_those_that_are_done(root, tmp_path, monkeypatch) -> None:
    config = load_config("csp-paper-fmow", [f"data.path={root}", *SETTINGS])
    text = plan(config)
    assert '"min_radius": 0.01' in text  # the resolved settings come first
    assert "300 samples to train on, 5 classes, features of 16 numbers" in text
    planned = {
        row[0]: (int(row[2].replace(",", "")), int(row[3].replace(",", "")))
        for line in text.splitlines()
        for row in [re.split(r"\s{2,}", line.strip())]
        if row[0] in config.methods and "–" not in row
    }
    assert set(planned) == {"MSE", "Tang et al. (gps)"}
    done: dict[str, list[int]] = {name: [0, 0] for name in planned}
    current, step, epochs = [""], engine.Training.step, engine.Training.epochs
    stages = {"pre-training": 0, "fine-tuning": 1, "image and place": 1}

    def named(training, count: int, description: str):
        current[0] = description
        return epochs(training, count, description)

    def counted(training, *arguments: object) -> None:
        step(training, *arguments)
        done[method[0]][stages[current[0]]] += 1

    method = [""]
    classifier = study._Cell.classifier

    def watched(cell):
        method[0] = cell.method
        return classifier(cell)

    monkeypatch.setattr(engine.Training, "epochs", named)
    monkeypatch.setattr(engine.Training, "step", counted)
    monkeypatch.setattr(study._Cell, "classifier", watched)
    study.run(config, tmp_path / "run")
    for name, (pretraining, finetuning) in planned.items():
        assert done[name] == [2 * pretraining, 2 * finetuning], name  # two seeds


def test_parameters_are_those_of_the_model(root) -> None:
    config = load_config(
        "csp-paper-fmow", [f"data.path={root}", *SETTINGS, 'table.methods=["Sup. Only (grid)"]']
    )
    encoder = LocationEncoder.from_config(vars(for_method(config, "Sup. Only (grid)").encoder))
    model = LocationClassifier(encoder, 5)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert f"  {count:,}  " in plan(config)


def test_a_dry_run_writes_nothing(root, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["run", "csp", "--config", "csp-paper-fmow", f"data.path={root}", *SETTINGS]
    command.append('table.methods=["Sup. Only (grid)"]')
    assert cli.main([*command, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "training takes about" in shown
    assert "Sup. Only (grid)" in shown
    assert list(tmp_path.iterdir()) == []


def test_the_globe_is_planned_without_computing_its_features(monkeypatch) -> None:
    config = load_config(
        overrides=[*SETTINGS[:-2], 'table.methods=["MSE"]', "features.components=0",
                   "features.arguments.num_features=24", 'table.splits=["random"]'],
    )  # fmt: skip
    assert "features of 24 numbers" in plan(config)


def test_saved_bytes_are_counted_once_and_released() -> None:
    x = torch.zeros(1000, requires_grad=True)
    with _saved_bytes() as peak:
        for _ in range(3):
            y = x.exp()  # keeps its result, 4,000 bytes
            (y * y.detach()).sum().backward()  # keeps it once more
    assert peak[0] == 4000
