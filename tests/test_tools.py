"""The tools as a new user meets them: every mistake is one line that names it and the remedy."""

from __future__ import annotations

import json
import runpy
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import pytest

from unimo_paddle import config, process
from unimo_paddle.data.text import Tokenizer
from unimo_paddle.trainer import RunStopped

ROOT = Path(__file__).resolve().parents[1]
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py"))
NUM_PAIRS = 24

pytestmark = pytest.mark.usefixtures("static_graph", "restored_logging")


class Outcome(NamedTuple):
    """What a tool left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., Outcome]:
    """Run a tool's ``main`` in this process: (name, *arguments) -> outcome."""

    def call(name: str, *arguments: object) -> Outcome:
        path = ROOT / "tools" / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        main, code = runpy.run_path(str(path))["main"], 0
        capsys.readouterr()
        before = signal.getsignal(signal.SIGTERM)  # not ignored by all that this process starts
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            signal.signal(signal.SIGTERM, before)
        return Outcome(code, *capsys.readouterr())

    return call


def assert_one_error(outcome: Sequence, *parts: str) -> None:
    """Exit code 2, and one line of an error that holds every part."""
    code, _, err = outcome
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert code == 2 and len(lines) == 1 and "Traceback" not in err, err
    assert [part for part in parts if part not in lines[0]] == [], lines[0]


# ---- help


@pytest.mark.parametrize("name", TOOLS)
def test_help_shows_an_example(call, name: str) -> None:
    outcome = call(name, "--help")
    assert outcome.code == 0
    assert f"python tools/{name}.py" in " ".join(outcome.out.split())


# ---- settings


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--config", "no.yaml"], ["cannot read settings file no.yaml", "check the path"]),
        (["--train.max_stps", "9"], ["train.max_stps", "did you mean", "train.max_steps"]),
        (["--train.max_steps", "ten"], ["train.max_steps is 'ten'", "give a whole number"]),
        (["--resmue"], ["--resmue is no option", "did you mean --resume?"]),
        (["train.max_steps=9"], ["'train.max_steps=9'", "write --section.key value"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_wrong_setting_on_the_command_line(call, arguments, parts) -> None:
    assert_one_error(call("train", *arguments), *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("train: {max_stps: 9}\n", ["run.yaml:1", "max_stps", "did you mean", "max_steps"]),
        ("seed: 1\ntrain: {max_steps: ten}\n", ["run.yaml:2", "'ten'", "give a whole number"]),
        ("train: {max_steps: 9\n", ["run.yaml:", "not YAML"]),
        ("model: !include no.yaml\n", ["run.yaml:1", "no.yaml", "check the path"]),
    ],
    ids=["misspelt", "wrong type", "not YAML", "missing include"],
)
def test_wrong_setting_in_a_file(call, tmp_path: Path, text: str, parts) -> None:
    (tmp_path / "run.yaml").write_text(text, "utf-8")
    assert_one_error(call("train", "--config", tmp_path / "run.yaml"), *parts)


def test_real_process_ends_with_the_line_and_the_code(run_tool) -> None:
    done = run_tool("train", "--config", "no.yaml")
    assert_one_error((done.returncode, done.stdout, done.stderr), "no.yaml")
    assert done.stdout == ""


# ---- own data


@pytest.fixture
def train_on_own_data(call, write_run_file, scenes_dir: Path, tmp_path: Path):
    """Train some steps on files of a user's own, some of them spoilt.

    Args:
        spoil: what is done to a pair: (record, folder) -> None.
        num_spoilt: how many of the pairs, the first ones.
    """

    def train(spoil=lambda record, folder: None, num_spoilt: int = 0, **changes) -> Outcome:
        folder = tmp_path / "own"
        folder.mkdir()
        lines = (scenes_dir / "train.jsonl").read_text("utf-8").splitlines()[:NUM_PAIRS]
        records = [json.loads(line) for line in lines]
        for number, record in enumerate(records):
            image = cv2.imread(str(scenes_dir / record["image"]))
            record["image"] = f"{number}.jpg"
            cv2.imwrite(str(folder / record["image"]), image)
            if number < num_spoilt:
                spoil(record, folder)
        pairs = folder / "train.jsonl"
        pairs.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
        data = {"source": "files", "pairs": str(pairs)}
        settings = {f"task.data.{name}": value for name, value in data.items()}
        settings |= {"task.mixture.texts": 0, "evaluation.splits": [], "train.max_steps": 3}
        run_file = write_run_file(tmp_path / "run.yaml", settings | changes)
        return call("train", "--config", run_file, "--output_dir", tmp_path / "run")

    return train


def cut_image(record: dict, folder: Path) -> None:
    path = folder / record["image"]
    path.write_bytes(path.read_bytes()[:-200])


def empty_caption(record: dict, folder: Path) -> None:
    record["captions"][1] = "  "


def remove_image(record: dict, folder: Path) -> None:
    (folder / record["image"]).unlink()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (cut_image, "0.jpg: JPEG is truncated"),
        (empty_caption, "train.jsonl:1: 'captions[1]' is empty"),
        (remove_image, "train.jsonl:1: file '0.jpg' does not exist"),
    ],
)
def test_one_bad_pair_is_named_and_skipped(train_on_own_data, spoil, named: str) -> None:
    outcome = train_on_own_data(spoil, 1, **{"train.max_steps": 5})  # once over all pairs
    assert outcome.code == 0, outcome.err
    assert named in outcome.err and "skipped" in outcome.err


@pytest.mark.parametrize(
    ("spoil", "num_spoilt", "parts"),
    [
        (cut_image, 20, ["samples cannot be used", ".jpg: JPEG is truncated", "mend or remove"]),
        (cut_image, NUM_PAIRS, ["no image of", "train.jsonl can be read", "check the files"]),
        (empty_caption, 11, ["11 of 24 records", "train.jsonl:1: 'captions[1]'", "mend the file"]),
        (remove_image, NUM_PAIRS, ["24 of 24 records", "'0.jpg' does not exist", "mend the file"]),
    ],
)
def test_many_bad_pairs_stop_the_run(train_on_own_data, spoil, num_spoilt: int, parts) -> None:
    assert_one_error(train_on_own_data(spoil, num_spoilt), *parts)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"pairs": "no.jsonl"}, ["data file no.jsonl cannot be read: No such file", "check"]),
        ({"pairs": None}, ["task.data.source is files", "task.data.pairs names no file"]),
        ({"texts": ["no.txt"]}, ["data file no.txt cannot be read: No such file", "check"]),
        ({"texts": []}, ["task.data.texts names no file", "set task.mixture.texts to 0"]),
        ({"images": "no"}, ["image folder no does not exist", "check the path"]),
        ({"source": "web"}, ["task.data.source is 'web'", "choose scenes or files"]),
    ],
    ids=["pairs", "no pairs", "texts", "no texts", "images", "source"],
)
def test_missing_data_is_named(train_on_own_data, changes, parts) -> None:
    changes = {f"task.data.{name}": value for name, value in changes.items()}
    wants_texts = {"task.mixture.texts": int("task.data.texts" in changes)}
    assert_one_error(train_on_own_data(**wants_texts | changes), *parts)


# ---- vocabulary


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    Tokenizer.train(["a red circle", "a blue square"], 300).save(folder)
    return folder


def vocabulary_settings(folder: Path) -> dict[str, str]:
    files = {"encoder_json": "encoder.json", "vocab_bpe": "vocab.bpe", "vocab_txt": "vocab.txt"}
    return {f"task.data.tokenizer.{key}": str(folder / name) for key, name in files.items()}


def test_own_vocabulary_is_used(train_on_own_data, vocabulary: Path, tmp_path: Path) -> None:
    assert train_on_own_data(**vocabulary_settings(vocabulary)).code == 0
    kept = tmp_path / "run" / "assets" / "vocabulary" / "vocab.txt"
    assert kept.read_bytes() == (vocabulary / "vocab.txt").read_bytes()


def test_vocabulary_of_another_size_than_the_models(train_on_own_data, vocabulary: Path) -> None:
    changes = vocabulary_settings(vocabulary) | {"model.vocab_size": 301}
    parts = ["has 300 entries", "model.vocab_size is 301", "make them equal"]
    assert_one_error(train_on_own_data(**changes), *parts)


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("vocab.txt", "[PAD]\n[CLS]\n", ["vocab.txt", "row 1 of 2 must be [CLS], not '[PAD]'"]),
        ("encoder.json", "{", ["encoder.json is not JSON", "token texts to ids"]),
        ("vocab.bpe", "one\n", ["vocab.bpe:1", "'one' is not two tokens"]),
        ("vocab.bpe", "x yz\n", ["merge 0 (x yz)", "belong to different vocabularies"]),
    ],
)
def test_malformed_vocabulary_is_named(
    train_on_own_data, vocabulary: Path, tmp_path: Path, name: str, text: str, parts
) -> None:
    shutil.copytree(vocabulary, tmp_path / "vocabulary")
    (tmp_path / "vocabulary" / name).write_text(text, "utf-8")
    assert_one_error(train_on_own_data(**vocabulary_settings(tmp_path / "vocabulary")), *parts)


def test_part_of_a_vocabulary_is_refused(train_on_own_data, vocabulary: Path) -> None:
    changes = dict(list(vocabulary_settings(vocabulary).items())[:2])
    assert_one_error(train_on_own_data(**changes), "2 of 3 given", "give all, or none")


# ---- runs


def test_resume_with_another_model(call, trained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    config = ["--config", trained_run / "config.yaml", "--output_dir", tmp_path / "run"]
    outcome = call("train", *config, "--model.hidden_size", 32, "--resume")
    parts = ["checkpoint is of another model", "[64] there", "[128] here", "config.yaml saved"]
    assert_one_error(outcome, *parts)


def test_folder_around_a_checkpoint_to_start_from(
    call, write_run_file, trained_run: Path, tmp_path: Path
) -> None:
    start = {"train.start_from": str(trained_run / "checkpoints")}
    run_file = write_run_file(tmp_path / "run.yaml", start)
    outcome = call("train", "--config", run_file, "--output_dir", tmp_path / "run")
    assert_one_error(outcome, "holds checkpoints and is none", "such as", "checkpoints/step-60")


def test_training_into_a_finished_run(call, trained_run: Path) -> None:
    outcome = call("train", "--config", trained_run / "config.yaml")
    parts = [str(trained_run), "already holds checkpoints", "--resume", "another output_dir"]
    assert_one_error(outcome, *parts)


def test_training_into_the_folder_of_a_run_that_trains(call, tmp_path: Path) -> None:
    made_from = tmp_path / "assets" / config.MADE_FROM_NAME
    made_from.parent.mkdir()
    made_from.write_text("of the first run")
    model = ["--model", ROOT / "configs" / "model" / "tiny.yaml"]
    with config.sole_run(tmp_path):
        outcome = call("train", *model, "--output_dir", tmp_path)
    assert_one_error(outcome, f"another process is making {tmp_path} now", "choose another output")
    assert made_from.read_text() == "of the first run"
    assert not (tmp_path / config.LOCK_NAME).exists()


def test_training_into_a_file(call, write_run_file, tmp_path: Path) -> None:
    run_file = write_run_file(tmp_path / "run.yaml")
    outcome = call("train", "--config", run_file, "--output_dir", run_file)
    assert_one_error(outcome, f"cannot use {run_file}: File exists", "choose another path")


@pytest.mark.parametrize("tool", ["evaluate", "export"])
class TestRun:
    """A run that cannot be evaluated cannot be exported either."""

    @pytest.fixture
    def use(self, call, tool: str):
        extra = {"evaluate": ["--split", "test"], "export": []}[tool]
        return lambda run, *arguments: call(tool, "--run", run, *extra, *arguments)

    def test_folder_that_is_no_run(self, use, tmp_path: Path) -> None:
        assert_one_error(use(tmp_path), str(tmp_path), "is no run", "name a folder of train.py")

    def test_settings_of_another_model(self, use, trained_run: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        shutil.copytree(trained_run, run)
        settings = (run / "config.yaml").read_text("utf-8")
        assert "hidden_size: 16" in settings
        (run / "config.yaml").write_text(settings.replace("hidden_size: 16", "hidden_size: 32"))
        assert_one_error(use(run), "checkpoint is of another model", "[64] there", "[128] here")

    def test_step_that_is_not_kept(self, use, trained_run: Path) -> None:
        assert_one_error(use(trained_run, "--step", 7), "step-7", "newest good one is", "step-60")

    def test_damaged_checkpoint(self, use, trained_run: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        shutil.copytree(trained_run, run)
        arrays = run / "checkpoints" / "step-60" / "arrays.safetensors"
        arrays.write_bytes(arrays.read_bytes()[:-1])
        assert_one_error(use(run), "step-60/arrays.safetensors", "bytes instead of", "step-55")


def test_unknown_split(call, trained_run: Path) -> None:
    outcome = call("evaluate", "--run", trained_run, "--split", "tset")
    assert_one_error(outcome, "split 'tset' is unknown", "choose test or test_novel")


def test_unknown_split_is_told_before_the_training(call, write_run_file, tmp_path: Path) -> None:
    run_file = write_run_file(tmp_path / "run.yaml", {"evaluation.splits": ["tset"]})
    outcome = call("train", "--config", run_file, "--output_dir", tmp_path / "run")
    assert_one_error(outcome, "split 'tset' is unknown", "choose test or test_novel")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_export_without_the_contrastive_objective(call, write_run_file, tmp_path: Path) -> None:
    changes = {"task.weights": {"contrastive": 0.0}, "train.max_steps": 1}
    run_file = write_run_file(tmp_path / "run.yaml", changes)
    run = tmp_path / "run"
    assert call("train", "--config", run_file, "--output_dir", run).code == 0
    assert_one_error(call("export", "--run", run), "serves nothing", "task.weights.contrastive")
    assert not (run / "bundle").exists()


# ---- bundles


def test_folder_that_is_no_bundle(call, tmp_path: Path) -> None:
    outcome = call("predict", "--bundle", tmp_path, "--images", "a.png", "--texts", "a")
    assert_one_error(outcome, str(tmp_path), "is no bundle", "run tools/export.py")


class Drawing:
    """A bundle that tells the seed by which it would draw a text."""

    def __init__(self, bundle: Path) -> None:
        pass

    draws = True

    def serves(self, name: str) -> bool:
        return True

    def predict(self, items: Sequence, *, first: int) -> list[dict]:
        raise AssertionError("it writes")

    def generate(self, items: Sequence, *, first: int, seed: int, **_) -> list[dict[str, int]]:
        return [{"seed": seed + first + number} for number in range(len(items))]


def test_every_item_of_a_long_file_draws_by_its_place(call, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("unimo_paddle.predictor.Predictor", Drawing)
    path = tmp_path / "items.jsonl"
    path.write_text('{"src": "a"}\n' * 600)
    outcome = call("predict", "--bundle", tmp_path, "--items", path, "--seed", 7)
    seeds = [json.loads(line)["seed"] for line in outcome.out.splitlines()]
    assert seeds == list(range(7, 607))


def test_image_that_is_missing(call, bundle: Path) -> None:
    outcome = call("predict", "--bundle", bundle, "--images", "no.png", "--texts", "a star")
    assert_one_error(outcome, "no.png", "No such file", "remove or replace it")


# ---- stops


@pytest.mark.parametrize("is_stopped", [True, False])
def test_a_stop_that_comes_behind_the_end_of_training_kills_nobody(
    call, monkeypatch, tmp_path: Path, is_stopped
) -> None:
    class Done:
        def train(self) -> dict:
            if is_stopped:
                raise RunStopped(3, tmp_path)
            return {}

    calls = []
    monkeypatch.setattr(config, "build_trainer", lambda *_, **__: Done())
    monkeypatch.setattr(process, "ignore_stops", lambda: calls.append("ignored"))
    model = ["--model", ROOT / "configs" / "model" / "tiny.yaml"]
    outcome = call("train", *model, "--output_dir", tmp_path)
    assert outcome.code == (process.STOPPED_CODE if is_stopped else 0) and calls == ["ignored"]
