"""Conversions as a whole: what is read, left out, refused, written, and how to go on from it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from unimo_paddle.checkpoint import load_checkpoint, save_checkpoint
from unimo_paddle.convert import conversion, convert, parameters, read_parameter, write_parameter
from unimo_paddle.convert.original import write_original
from unimo_paddle.errors import UserError

TOOL = Path(__file__).resolve().parents[2] / "tools" / "convert_checkpoint.py"
MAX_PEAK = 4.0  # GiB of memory for 0.46 GiB of weights
OF_THE_OPTIMIZER = [
    "word_embedding_moment1_0",
    "word_embedding_moment2_0",
    "pos_embedding_beta1_pow_acc_0",
    "encoder_layer_1_ffn_fc_0.w_0_beta2_pow_acc_0",
    "cls_out_2_w_moment1_1",
    "@LR_DECAY_COUNTER@",
    "scheduled_learning_rate",
    "learning_rate_0",
    "loss_scaling_0",
]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return tmp_path / "ours"


# ---- from the original


def test_original_parameters_become_a_checkpoint(original_dir: Path, ours: Path) -> None:
    summary = convert("original", original_dir, ours, num_heads=4)
    assert sorted(path.name for path in ours.iterdir()) == ["latest", "model.yaml", "step-0"]
    checkpoint = load_checkpoint(summary.output)
    names = sorted(path.name for path in original_dir.iterdir())
    assert (checkpoint.step, checkpoint.state["parameters"]) == (0, names)
    for name in names:
        np.testing.assert_array_equal(checkpoint.arrays[name], read_parameter(original_dir / name))


def test_settings_beside_the_checkpoint_are_those_of_the_shapes(
    original_dir: Path, ours: Path
) -> None:
    convert("original", original_dir, ours, num_heads=4)
    assert yaml.safe_load((ours / "model.yaml").read_text()) == {
        "vocab_size": 30,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 4,
        "max_positions": 12,
        "first_position": 2,
        "tie_word_embeddings": True,
    }


@pytest.mark.parametrize("group", parameters.GROUPS[1:], ids=lambda group: group.name)
def test_every_part_comes_back_to_the_byte(make_arrays, tmp_path: Path, group) -> None:
    needed = [g for g in parameters.GROUPS[1:] if g.name in group.needs]
    needed += [parameters.IMAGES] if parameters.IMAGE_POOLER in needed else []
    (tmp_path / "a").mkdir()
    write_original(tmp_path / "a", make_arrays(group, *needed).items())
    convert("original", tmp_path / "a", tmp_path / "b", num_heads=2)
    convert("ours", tmp_path / "b" / "step-0", tmp_path / "c", destination="original")
    assert contents(tmp_path / "c") == contents(tmp_path / "a")


def test_the_recorded_model_comes_back_to_the_byte(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "reference" / "official" / "tiny_official_params"
    convert("original", folder, tmp_path / "ours", num_heads=4)
    convert("ours", tmp_path / "ours" / "step-0", tmp_path / "back", destination="original")
    assert contents(tmp_path / "back") == contents(folder)


def test_what_the_optimizer_keeps_is_left_out_and_counted(original_dir: Path, ours: Path) -> None:
    for name in OF_THE_OPTIMIZER:
        (original_dir / name).write_bytes(b"not even a parameter")
    summary = convert("original", original_dir, ours, num_heads=2)
    assert f"the optimizer alone needs them: {len(OF_THE_OPTIMIZER)} files" in str(summary.notes)
    assert not set(OF_THE_OPTIMIZER) & set(load_checkpoint(summary.output).arrays)


@pytest.mark.parametrize(
    "name", ["notes.txt", ".hidden", "word_embeddings_moment1_0", "word_embedding_moment3_0"]
)
def test_other_files_are_named(original_dir: Path, ours: Path, name: str) -> None:
    (original_dir / name).write_bytes(b"")
    with pytest.raises(UserError, match=f"unknown: {name};"):
        convert("original", original_dir, ours, num_heads=2)
    assert not ours.exists()


def test_folders_and_pipes_are_named_and_not_opened(original_dir: Path, ours: Path) -> None:
    (original_dir / "match_fc.w_0").mkdir()
    os.mkfifo(original_dir / "match_fc.b_0")
    with pytest.raises(UserError, match=r"unknown: match_fc\.b_0, match_fc\.w_0;"):
        convert("original", original_dir, ours, num_heads=2)


def test_files_left_out_on_demand_are_told(original_dir: Path, ours: Path) -> None:
    summary = convert("original", original_dir, ours, num_heads=2, skip=["mask_lm_*"])
    assert summary.description.parts == ()
    assert "--skip mask_lm_* says (5): mask_lm_out_fc.b_0" in summary.notes[0]


def test_a_pattern_that_matches_nothing_is_refused(original_dir: Path, ours: Path) -> None:
    with pytest.raises(UserError, match="--skip 'mask_ml' matches no name"):
        convert("original", original_dir, ours, num_heads=2, skip=["mask_ml"])


def test_a_folder_without_parameters_is_told(tmp_path: Path, ours: Path) -> None:
    (tmp_path / "@LR_DECAY_COUNTER@").touch()
    with pytest.raises(UserError, match="holds no parameter"):
        convert("original", tmp_path, ours)


def test_half_precision_is_widened(original_dir: Path, ours: Path) -> None:
    values = read_parameter(original_dir / "pos_embedding").astype("float16")
    (original_dir / "pos_embedding").unlink()
    write_parameter(original_dir / "pos_embedding", values)
    found = load_checkpoint(convert("original", original_dir, ours, num_heads=2).output)
    np.testing.assert_array_equal(found.arrays["pos_embedding"], values.astype("float32"))


def remove(folder: Path) -> None:
    (folder / "pos_embedding").unlink()


def cut(folder: Path) -> None:
    path = folder / "pos_embedding"
    path.write_bytes(path.read_bytes()[:-1])


def put(values: np.ndarray) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "pos_embedding").unlink()
        write_parameter(folder / "pos_embedding", values)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (remove, "missing: pos_embedding;"),
        (cut, "pos_embedding has 767 bytes of values"),
        (put(np.zeros((12, 15), "float32")), "pos_embedding is [12, 15] instead of [12, 16];"),
        (put(np.zeros((12, 16), "int64")), "holds int64; a parameter is float32 or float16"),
        (put(np.full((12, 16), np.inf, "float32")), "holds 192 of 192 values that are no finite"),
    ],
    ids=["missing", "cut", "misshapen", "integers", "not finite"],
)
def test_one_bad_file_is_one_line_and_leaves_nothing(
    original_dir: Path, ours: Path, change, reason: str
) -> None:
    change(original_dir)
    with pytest.raises(UserError) as caught:
        convert("original", original_dir, ours, num_heads=2)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    assert list(ours.parent.iterdir()) == [original_dir]


# ---- heads


def test_heads_are_one_for_every_64_numbers(make_arrays, tmp_path: Path, ours: Path) -> None:
    (tmp_path / "original").mkdir()
    write_original(tmp_path / "original", make_arrays(D=128, I=512).items())
    summary = convert("original", tmp_path / "original", ours)
    assert "num_heads: 2, one for every 64 numbers of the width" in str(summary.notes)


@pytest.mark.parametrize(
    ("num_heads", "reason"),
    [(None, "give it with --num_heads"), (3, "num_heads 3 does not divide"), (0, "at least 1")],
)
def test_heads_that_do_not_fit_are_refused(original_dir, ours, num_heads, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        convert("original", original_dir, ours, num_heads=num_heads)
    assert not ours.exists()


# ---- from ours


def test_a_trained_checkpoint_gives_its_parameters_alone(trained_run, tmp_path: Path) -> None:
    path = trained_run / "checkpoints" / "step-60"
    checkpoint = load_checkpoint(path)
    summary = convert("ours", path, tmp_path / "original", destination="original")
    written = tmp_path / "original"
    assert sorted(p.name for p in written.iterdir()) == sorted(checkpoint.state["parameters"])
    assert "the optimizer alone needs them" in str(summary.notes)
    for file in written.iterdir():
        np.testing.assert_array_equal(read_parameter(file), checkpoint.arrays[file.name])


def test_settings_come_from_the_run(trained_run: Path, tmp_path: Path) -> None:
    path = trained_run / "checkpoints" / "step-60"
    summary = convert("ours", path, tmp_path / "theirs", destination="paddlenlp")
    assert "num_heads: 2, as the settings beside it say" in summary.notes


def test_settings_of_another_model_are_refused(original_dir: Path, ours: Path) -> None:
    path = convert("original", original_dir, ours, num_heads=2).output
    settings = (ours / "model.yaml").read_text().replace("num_layers: 2", "num_layers: 3")
    (ours / "model.yaml").write_text(settings)
    with pytest.raises(UserError, match="say num_layers 3, its arrays 2"):
        convert("ours", path, ours.parent / "theirs", destination="paddlenlp")


def test_a_folder_of_checkpoints_is_told_from_one(original_dir: Path, ours: Path) -> None:
    convert("original", original_dir, ours, num_heads=2)
    with pytest.raises(UserError, match=r"holds checkpoints and is none.*step-0"):
        convert("ours", ours, ours.parent / "back", destination="original")


def test_a_damaged_checkpoint_is_refused(original_dir: Path, ours: Path) -> None:
    path = convert("original", original_dir, ours, num_heads=2).output
    arrays = path / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match="is damaged"):
        convert("ours", path, ours.parent / "back", destination="original")


@pytest.mark.parametrize(
    ("state", "reason"),
    [({}, "missing: the list of parameters"), ({"parameters": ["a"]}, "missing: a;")],
)
def test_checkpoints_that_do_not_tell_their_parameters(tmp_path, state, reason) -> None:
    path = save_checkpoint(tmp_path, 3, {"b": np.ones(2, "float32")}, state, keep=1)
    with pytest.raises(UserError, match=reason):
        convert("ours", path, tmp_path / "back", destination="original")


# ---- outputs


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_an_existing_output_is_kept(original_dir: Path, ours: Path, make) -> None:
    make(ours)
    with pytest.raises(UserError, match="ours exists already; choose another"):
        convert("original", original_dir, ours, num_heads=2)


def test_folders_on_the_way_are_made(original_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "a" / "b" / "ours"
    assert convert("original", original_dir, output, num_heads=2).output.is_dir()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_nothing(monkeypatch, original_dir, ours, error) -> None:
    path = convert("original", original_dir, ours, num_heads=2).output

    def fail(folder: Path, arrays) -> None:
        (folder / "word_embedding").write_bytes(b"half")
        raise error

    monkeypatch.setattr(conversion, "write_original", fail)
    with pytest.raises((UserError, KeyboardInterrupt)) as caught:
        convert("ours", path, ours.parent / "back", destination="original")
    assert isinstance(error, KeyboardInterrupt) or "No space left on device" in str(caught.value)
    assert sorted(path.name for path in ours.parent.iterdir()) == ["original", "ours"]


def test_no_conversion_is_refused(original_dir: Path, ours: Path) -> None:
    with pytest.raises(UserError, match="is no conversion"):
        convert("original", original_dir, ours, destination="original")


# ---- the tool


@pytest.fixture
def call(monkeypatch, capsys, restored_logging) -> Callable[..., tuple[int, str, str]]:
    """Run the tool in this process: (*arguments) -> exit code, output, errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(TOOL))["main"]()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return (code, *capsys.readouterr())

    return call


def test_the_tool_tells_what_it_did(call, original_dir: Path, ours: Path) -> None:
    code, out, _ = call(
        *("--from", "original", "--input", original_dir, "--output", ours, "--num_heads", 2)
    )
    assert code == 0
    expected = [
        "41 parameters",
        "2 layers of width 16",
        "with: language head",
        "--train.start_from",
    ]
    assert [part for part in expected if part not in out] == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--from", "original", "--input", "no"], "no is no folder"),
        (["--from", "roberta", "--input", "no"], "there is no file no"),
        (["--from", "paddlenlp", "--input", "no.npz"], "there is no file no.npz"),
        (["--from", "ours", "--input", "no", "--to", "original"], "no checkpoint no"),
        (["--from", "ours", "--input", "no"], "choose another --to"),
        (["--from", "bert", "--input", "no"], "invalid choice: 'bert'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_are_one_line(call, tmp_path: Path, arguments, reason: str) -> None:
    code, out, err = call(*arguments, "--output", tmp_path / "out")
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert (code, out) == (2, "") and len(lines) == 1
    assert reason in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_fine_tuning_starts_from_a_conversion(
    run_tool, trained_run: Path, write_run_file, tmp_path: Path
) -> None:
    trained = trained_run / "checkpoints" / "step-60"
    convert("ours", trained, tmp_path / "original", destination="original")
    path = convert("original", tmp_path / "original", tmp_path / "ours", num_heads=2).output
    run_file = write_run_file(tmp_path / "run.yaml", {"train.max_steps": 1})
    done = run_tool(
        *("train", "--config", run_file, "--output_dir", tmp_path / "run"),
        *("--train.start_from", path, "--model", tmp_path / "ours" / "model.yaml"),
    )
    assert done.returncode == 0, done.stderr
    num_parameters = len(load_checkpoint(trained).state["parameters"])
    assert f"{num_parameters} parameters start from {path}" in done.stderr
    assert "start anew" not in done.stderr


# ---- size

PEAK = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_base_size_comes_back_to_the_byte_in_little_memory(
    make_arrays, tmp_path: Path, record_property
) -> None:
    sizes = {"V": 50265, "D": 768, "P": 514, "I": 3072}
    groups = (parameters.TEXT_POOLER, parameters.classification_group(2))
    (tmp_path / "a").mkdir()
    write_original(tmp_path / "a", make_arrays(*groups, num_layers=12, **sizes).items())
    ways = {
        "original": (tmp_path / "a", tmp_path / "b", "ours"),
        "ours": (tmp_path / "b" / "step-0", tmp_path / "c", "original"),
    }
    peaks = {}
    for origin, (path, output, destination) in ways.items():
        options = {"--from": origin, "--input": path, "--output": output, "--to": destination}
        arguments = [str(part) for option in options.items() for part in option]
        command = [sys.executable, "-c", PEAK, str(TOOL), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "124,646,402 values" in done.stdout
        peaks[origin] = int(done.stdout.split("VmHWM:")[1].split()[0]) / 2**20
    record_property("peak_gib", peaks)
    assert max(peaks.values()) < MAX_PEAK, peaks
    assert contents(tmp_path / "c") == contents(tmp_path / "a")
