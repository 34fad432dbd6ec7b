"""Settings: whatever a user writes is either understood or answered by one clear line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import draccus
import numpy as np
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.settings import Option, build, dump, load, parse, save


@dataclass(frozen=True)
class TaskConfig(draccus.ChoiceRegistry):
    """What is learned."""

    batch_size: int = 8  # samples a process


@TaskConfig.register_subclass("drawing")
@dataclass(frozen=True)
class DrawingConfig(TaskConfig):
    """Learn to draw."""

    sizes: tuple[int, ...] = (1, 2)  # of the paper, one a stage
    data: Path = Path("data/drawings")  # folder of drawings
    side: Literal["left", "right"] = "left"  # the drawing hand


@TaskConfig.register_subclass("naming")
@dataclass(frozen=True)
class NamingConfig(TaskConfig):
    """Learn to name."""

    labels: tuple[str, str] | None = None  # the two names
    weights: dict[str, float] = field(default_factory=dict)  # objective: weight


@dataclass(frozen=True)
class TrainConfig:
    """How long."""

    max_steps: int = 100  # updates in all
    learning_rate: float = 1e-4  # highest rate
    shuffle: bool = True  # a new order every epoch
    name: str = "run"  # shown in plots
    limit: float | None = None  # largest loss; none means any

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise UserError(f"train.max_steps is {self.max_steps}; give at least 1")


@dataclass(frozen=True)
class RunConfig:
    """A run."""

    task: TaskConfig  # what is learned
    output_dir: Path = Path("runs/new")  # folder of everything the run writes
    seed: int = 0  # of all randomness
    train: TrainConfig = field(default_factory=TrainConfig)  # how long


RUN_FILE = """\
# A run.
output_dir: runs/a
task:
  type: drawing
  sizes: [3, 4, 5]
train: !include parts/train.yaml
"""
TRAIN_FILE = "max_steps: 20\nlearning_rate: 1e-3\nshuffle: false\n"
OPTIONS = (Option("resume", "continue the run"), Option("split", "what to read", metavar="NAME"))


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "train.yaml").write_text(TRAIN_FILE)
    (tmp_path / "drawing.yaml").write_text("type: drawing\nsizes: [3]\nside: right\n")
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    return tmp_path / "run.yaml"


def parse_run(*argv: str) -> tuple[RunConfig, dict]:
    return parse(
        RunConfig,
        argv,
        prog="train.py",
        description="Train a model.",
        examples=["train.py --config run.yaml"],
        options=OPTIONS,
    )


def message_of(*argv: str) -> str:
    with pytest.raises(UserError) as raised:
        parse_run(*argv)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_file_with_an_included_section_is_read(run_file: Path) -> None:
    config = load(RunConfig, run_file)
    assert config.task == DrawingConfig(sizes=(3, 4, 5))
    assert config.train == TrainConfig(max_steps=20, learning_rate=1e-3, shuffle=False)
    assert config.output_dir == Path("runs/a")


def test_command_line_goes_before_the_file(run_file: Path) -> None:
    config, _ = parse_run(
        "--train.max_steps", "7", "--config", str(run_file), "--seed=3", "--task.side", "right"
    )
    assert (config.train.max_steps, config.seed, config.task.side) == (7, 3, "right")
    assert config.train.learning_rate == 1e-3


def test_section_can_come_from_a_file_on_the_command_line(run_file: Path) -> None:
    part = str(run_file.parent / "parts" / "train.yaml")
    config, _ = parse_run("--task.type", "naming", "--train", part, "--train.name", "x")
    assert config.train == TrainConfig(20, 1e-3, shuffle=False, name="x")


def test_part_of_a_section_is_kept_whichever_is_written_first(run_file: Path) -> None:
    part = str(run_file.parent / "parts" / "train.yaml")
    config, _ = parse_run(
        *("--train.name", "x", "--task.sizes", "[7]", "--train", part),
        *("--task", str(run_file.parent / "drawing.yaml")),
    )
    assert config.train == TrainConfig(20, 1e-3, shuffle=False, name="x")
    assert config.task == DrawingConfig(sizes=(7,), side="right")


@pytest.mark.parametrize(
    ("argv", "key", "expected"),
    [
        (["--train.learning_rate", "1e-5"], "learning_rate", 1e-5),
        (["--train.learning_rate", "3"], "learning_rate", 3.0),
        (["--train.name", "7"], "name", "7"),
        (["--train.name", "on"], "name", "on"),
        (["--train.name", "a: b"], "name", "a: b"),
        (["--train.limit", "null"], "limit", None),
        (["--train.limit", "2"], "limit", 2.0),
        (["--train.shuffle", "false"], "shuffle", False),
        (["--train.shuffle"], "shuffle", True),
        (["--train.max-steps", "5"], "max_steps", 5),
    ],
)
def test_type_of_the_field_decides_what_an_argument_means(
    argv: list[str], key: str, expected: object
) -> None:
    config, _ = parse_run("--task.type", "naming", *argv)
    value = getattr(config.train, key)
    assert value == expected
    assert type(value) is type(expected)


def test_hyphens_stay_in_the_keys_of_a_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("task: {type: naming, weights: {by-hand: 1.0}}\n")
    argv = ["--config", str(path), "--task.weights.by-hand", "2", "--train.max-steps", "3"]
    config, _ = parse_run(*argv)
    assert config.task.weights == {"by-hand": 2.0} and config.train.max_steps == 3


def test_collections_are_written_as_in_yaml() -> None:
    config, _ = parse_run(
        "--task.type", "naming", "--task.labels", "[a, b]", "--task.weights", "{cmcl: 2}"
    )
    assert config.task == NamingConfig(labels=("a", "b"), weights={"cmcl": 2.0})


def test_options_of_the_tool_are_no_settings() -> None:
    _, options = parse_run("--resume", "--task.type", "naming", "--split", "test")
    assert options == {"resume": True, "split": "test"}
    assert parse_run("--task.type", "naming")[1] == {"resume": False, "split": None}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ["--train.max_stesp", "3"],
            "train.max_stesp is no setting; did you mean train.max_steps?",
        ),
        (["--max_steps", "3"], "max_steps is no setting; did you mean train.max_steps?"),
        (["--traim.max_steps", "3"], "traim is no setting; did you mean train?"),
        (["--resmue"], "--resmue is no option; did you mean --resume?"),
        (["--resume", "yes"], "argument 'yes' has no key"),
        (["--resume=yes"], "--resume takes no value, but has 'yes'"),
        (["--split"], "--split has no value"),
        (["--seed"], "--seed has no value; give a whole number"),
        (["--seed", "x"], "seed is 'x'; give a whole number"),
        (["--seed", "1.5"], "seed is 1.5; give a whole number"),
        (["--seed", "true"], "seed is True; give a whole number"),
        (["--seed", "1", "--seed", "2"], "--seed is given twice"),
        (["--seed.x", "1"], "seed is {'x': '1'}; give a whole number"),
        (["--train.learning_rate", "nan"], "train.learning_rate is 'nan'; give a number"),
        (["--train.learning_rate", ".inf"], "train.learning_rate is inf; give a number, finite"),
        (["--train.shuffle", "2"], "train.shuffle is 2; give true or false"),
        (["--train.max_steps", "0"], "train.max_steps is 0; give at least 1"),
        (["--train.limit", "["], "--train.limit [ is not YAML"),
        (["--train.limit", "high"], "train.limit is 'high'; give a number"),
        (["--task.type", "nameing"], "task.type is 'nameing'; did you mean naming?"),
        (["--task.labels", "[a]"], "task.labels is ['a']; give [text, text]"),
        (["--task.labels", "[a, 1]"], "task.labels.1 is 1; give text (in quotes)"),
        (["--task.weights", "{cmcl: -}"], "task.weights.cmcl is '-'; give a number"),
        (["--output_dir", ""], "output_dir is ''; give a path"),
        (["--config"], "--config has no value"),
        (["--config", "nowhere.yaml"], "cannot read settings file nowhere.yaml: No such file"),
        (["--train", "nowhere.yaml"], "cannot read settings file nowhere.yaml: No such file"),
        (["run.yaml"], "argument 'run.yaml' has no key"),
        (["--train..x", "1"], "argument '--train..x' is no key"),
    ],
)
def test_mistake_on_the_command_line_is_answered(argv: list[str], expected: str) -> None:
    task = [] if "--task.type" in argv else ["--task.type", "naming"]
    assert expected in message_of(*task, *argv)


def test_missing_choice_lists_the_choices() -> None:
    assert message_of() == "task.type is missing; give one of drawing, naming"


def test_choice_that_is_no_word_is_answered() -> None:
    with pytest.raises(UserError, match=r"task\.type is \['a'\]; give one of"):
        build(RunConfig, {"task": {"type": ["a"]}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seeed: 1", "run.yaml:1: seeed is no setting; did you mean seed?"),
        ("task:\n  type: drawing\n  labels: [a]", "run.yaml:3: task.labels is no setting;"),
        ("\nseed: one", "run.yaml:2: seed is 'one'; give a whole number"),
        ("seed: 1\nseed: 2", "run.yaml:2: seed is given twice"),
        ("train: 5", "run.yaml:1: train is 5; give 'key: value' settings"),
        ("train:\n  name: 5", "run.yaml:2: train.name is 5; give text (in quotes)"),
        ("train:\n  name: 2020-01-01", "run.yaml:2: train.name is datetime.date(2020, 1, 1)"),
        ("seed: [1", "run.yaml:1: not YAML: expected ',' or ']'"),
        ("a: b: c", "run.yaml:1: not YAML: mapping values are not allowed here"),
        ("\tseed: 1", "run.yaml:1: not YAML"),
        ("- 1\n- 2", "run.yaml: holds [1, 2]; write settings as 'key: value' lines"),
        ("train: !include none.yaml", "run.yaml:1: cannot read settings file"),
        ("train: !include run.yaml", "run.yaml: includes itself"),
        ("<<: {seed: 1}", "run.yaml:1: << would lose keys; include whole sections instead"),
        ("seed: !!python/object:os.system 1", "cannot read seed"),
        ("seed: &a [*a]", "run.yaml: nested too deeply"),
        ("? [a]\n: 1", "run.yaml:1: a key is no word"),
        ("seed: \x01", "run.yaml: not YAML"),
        ("seed: !!bool maybe", "run.yaml:1: cannot read seed 'maybe'"),
        ("seed: !!timestamp x", "run.yaml:1: cannot read seed 'x'"),
        ("seed: 0x" + "f" * 5000, "a whole number of more than 64 bits; mend or quote it"),
        ('"a\\nb": 1', "run.yaml:1: a key is no word"),
        ("train: !include /dev/zero", "run.yaml:1: /dev/zero: more than 262144 bytes"),
    ],
)
def test_mistake_in_a_file_is_answered_with_its_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert expected in message_of("--task.type", "drawing", "--config", str(path))


def test_file_of_other_encoding_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes("seed: 1 # größe".encode("latin-1"))
    assert "run.yaml: not UTF-8 at byte" in message_of("--config", str(path))


def test_line_of_an_included_file_is_named(run_file: Path) -> None:
    (run_file.parent / "parts" / "train.yaml").write_text("name: a\nmax_steps: many\n")
    expected = "train.yaml:2: train.max_steps is 'many'; give a whole number"
    assert expected in message_of("--config", str(run_file))


def test_empty_section_has_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("task: {type: naming}\ntrain:\n")
    assert load(RunConfig, tmp_path / "run.yaml") == RunConfig(task=NamingConfig())


def test_saved_config_is_read_back_equal(tmp_path: Path) -> None:
    config = RunConfig(
        task=NamingConfig(labels=("a", "1"), weights={"cmcl": 1e-7}),
        train=TrainConfig(learning_rate=1e-5, name="yes", limit=None),
    )
    save(config, tmp_path / "config.yaml")
    assert load(RunConfig, tmp_path / "config.yaml") == config


def test_dumped_config_builds_an_equal_one() -> None:
    config = RunConfig(task=DrawingConfig(sizes=()))
    assert build(RunConfig, dump(config)) == config


@pytest.mark.parametrize("seed", range(400))
def test_mutated_file_is_read_or_answered_in_one_line(run_file: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    text = bytearray((RUN_FILE + "seed: 3\n").encode())
    for _ in range(generator.integers(1, 5)):
        place = int(generator.integers(len(text)))
        pieces = (
            b"",
            b"\n",
            b": ",
            b"  ",
            b"[",
            b"{",
            b"*a",
            b"&a",
            b"!x ",
            b"|",
            b"'",
            b"-",
            b"nan",
        )
        piece = pieces[generator.integers(len(pieces))] + bytes(
            generator.integers(0, 256, 1).tolist()
        )
        text[place : place + int(generator.integers(0, 4))] = piece
    run_file.write_bytes(bytes(text))
    try:
        load(RunConfig, run_file)
    except UserError as error:
        assert "\n" not in str(error)
        assert "; " in str(error)


def test_help_shows_every_setting_with_type_default_and_comment(
    capsys: pytest.CaptureFixture,
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_run("--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for line in (
        "usage: train.py --config FILE [--section.key value ...]",
        "  train.py --config run.yaml",
        "  --resume                                  continue the run",
        "  --split NAME                              what to read",
        "  --seed int                                of all randomness [0]",
        "task with --task.type drawing: Learn to draw.",
        "  --task.batch_size int                     samples a process [8]",
        "  --task.side left|right                    the drawing hand [left]",
        "train: how long",
        "  --train.learning_rate number              highest rate [0.0001]",
        "  --train.limit number or null              largest loss; none means any [null]",
    ):
        assert line in shown.splitlines()
    assert max(map(len, shown.splitlines())) <= 100
