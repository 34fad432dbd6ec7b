"""An ablation trains and measures every row once, goes on where it was, and says what came out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.conftest import LIMIT, ROOT, TOOLS, wait_for
from unimo_paddle.ablation import (
    AblationConfig,
    Finished,
    as_markdown,
    choose_rows,
    draw,
    finished_runs,
    means_of,
    result_path,
    run_all,
    take_given,
)
from unimo_paddle.ablation.runs import _Clock
from unimo_paddle.config import parse_training
from unimo_paddle.errors import UserError
from unimo_paddle.settings import dump, load

METRICS = ["test/image_retrieval_recall@10", "test/loss/masked_language"]


@pytest.fixture(scope="module")
def table_file(write_run_file, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two rows, one seed and some seconds."""
    folder = tmp_path_factory.mktemp("ablation")
    base = write_run_file(folder / "run.yaml", {"train.max_steps": 2})
    table = {
        "base": str(base),
        "prepare": ["leaks --help"],
        "rows": {"full": "", "without contrastive": "--task.weights.contrastive 0"},
        "splits": ["test"],
        "metrics": METRICS,
        "seeds": [5],
        "output_dir": str(folder / "runs"),
    }
    (folder / "table.yaml").write_text(yaml.safe_dump(table))
    return folder / "table.yaml"


@pytest.mark.slow
def test_rows_are_trained_once_and_measured(table_file: Path, run_tool) -> None:
    first = run_tool("ablate", "--config", table_file)
    assert first.returncode == 0, first.stderr
    folder = table_file.parent / "runs"
    files = {name: folder / f"{name}-5.json" for name in ("full", "without_contrastive")}
    found = {name: json.loads(path.read_text()) for name, path in files.items()}
    assert set(METRICS) <= found["full"]["metrics"].keys()
    assert METRICS[0] not in found["without_contrastive"]["metrics"]
    assert METRICS[1] in found["without_contrastive"]["metrics"]
    assert "usage: prepare_data.py leaks" in (folder / "prepare-1.log").read_text()
    page = (folder / "table.md").read_text()
    value = found["full"]["metrics"][METRICS[0]]
    assert f"| full | {value:.3f} (" in page and "| without contrastive | - |" in page
    assert (folder / "table.png").stat().st_size > 1000
    # Again, with one result lost: that run alone is made again, to the same numbers.
    files["full"].unlink()
    (folder / "without_contrastive-5.log").unlink()
    second = run_tool("ablate", "--config", table_file)
    assert second.returncode == 0, second.stderr
    assert json.loads(files["full"].read_text())["metrics"] == found["full"]["metrics"]
    assert not (folder / "without_contrastive-5.log").exists()


def test_a_changed_row_is_not_taken_for_what_was_measured(table_file: Path, run_tool) -> None:
    folder = table_file.parent / "runs"
    folder.mkdir(exist_ok=True)
    table = yaml.safe_load(table_file.read_text())
    table["rows"] = {"other": "--train.max_steps 1"}
    changed = table_file.with_name("changed.yaml")
    changed.write_text(yaml.safe_dump(table))
    old = {"arguments": ["--train.max_steps", "9"], "row": "other", "seed": 5, "minutes": 1}
    (folder / "other-5.json").write_text(json.dumps({**old, "metrics": {}}))
    done = run_tool("ablate", "--config", changed)
    assert done.returncode == 2
    assert "was measured with --train.max_steps 9, but the row is now" in done.stderr


def test_a_changed_base_is_not_taken_for_what_was_measured(
    table_file: Path, tmp_path: Path
) -> None:
    table = yaml.safe_load(table_file.read_text())
    table |= {"output_dir": str(tmp_path), "rows": {"full": ""}, "prepare": []}
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(table))
    config = load(AblationConfig, path)
    arguments = config.arguments("full", 5)
    folder = config.folder("full", 5)
    folder.mkdir(parents=True)
    result = {"arguments": arguments, "row": "full", "seed": 5, "minutes": 1, "metrics": {}}
    folder.with_suffix(".json").write_text(json.dumps(result))
    settings = dump(parse_training(arguments)[0])
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    assert [found.seed for found in run_all(config, tmp_path, jobs=1)] == [5]
    settings["optimizer"]["learning_rate"] = 0.5
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match=r"measured with optimizer.learning_rate 0.5, but .*run\.y"):
        run_all(config, tmp_path, jobs=1)


def test_a_run_that_was_begun_with_another_base_does_not_go_on(
    table_file: Path, tmp_path: Path
) -> None:
    config = replace(load(AblationConfig, table_file), output_dir=str(tmp_path), prepare=())
    folder = config.folder("full", 5)
    settings = dump(parse_training(config.arguments("full", 5))[0])
    settings["optimizer"]["learning_rate"] = 0.5
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match=r"full-5 was begun with optimizer.learning_rate 0.5, but"):
        run_all(config, tmp_path, jobs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {}}, "rows is empty"),
        ({"rows": {"a b": "", "a_b": ""}}, "rows 'a b' and 'a_b' would share"),
        ({"rows": {"odd": "--train.max_stepps 3"}}, r"row 'odd': .*max_stepps"),
        ({"metrics": ("dev/recall",)}, "metrics holds 'dev/recall'; write split/metric"),
        ({"seeds": (3, 3)}, "seeds holds 3 twice"),
        ({"rows": {"odd": "--output_dir it's"}}, "row 'odd': No closing quotation in"),
        ({"prepare": ("mine --pairs 'a",)}, "prepare, line .*: No closing quotation"),
    ],
)
def test_mistakes_are_told_before_anything_runs(table_file: Path, change, message) -> None:
    values = yaml.safe_load(table_file.read_text())
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()} | change
    with pytest.raises(UserError, match=message):
        AblationConfig(**values)


def test_rows_may_be_chosen(table_file: Path) -> None:
    values = yaml.safe_load(table_file.read_text())
    config = AblationConfig(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    )
    assert list(choose_rows(config, ["full"]).rows) == ["full"]
    with pytest.raises(UserError, match="--rows 'fall' is no row; choose of full, without"):
        choose_rows(config, ["fall"])


def test_the_table_so_far_needs_a_finished_run(table_file: Path, run_tool, tmp_path: Path) -> None:
    options = ["--config", table_file, "--output_dir", tmp_path / "runs", "--so_far"]
    done = run_tool("ablate", *options)
    assert done.returncode == 2 and "--so_far: no run has finished in" in done.stderr
    config = replace(load(AblationConfig, table_file), output_dir=str(tmp_path / "runs"))
    result = {"row": "full", "seed": 5, "minutes": 1.0, "metrics": {METRICS[1]: 2.5}}
    (tmp_path / "runs").mkdir()
    path = config.folder("full", 5).with_suffix(".json")
    path.write_text(json.dumps({"arguments": config.arguments("full", 5), **result}))
    done = run_tool("ablate", *options)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "runs/table.md").read_text()
    assert "So far 1 of 2 runs." in page and "| full | - | 2.500 | 1.0 |" in page


def test_runs_of_another_machine_are_given_by_its_table(
    table_file: Path, run_tool, tmp_path: Path
) -> None:
    config = load(AblationConfig, table_file)
    there = replace(config, output_dir=str(tmp_path / "there"))
    (tmp_path / "there").mkdir()
    for seed in (5, 6):  # the table has no seed 6
        arguments = there.arguments("full", seed)
        Finished("full", seed, 1.0, {METRICS[1]: 2.5}, arguments).write(
            result_path(there, "full", seed)
        )
    take = ["--config", table_file, "--so_far", "--output_dir"]
    done = run_tool("ablate", *take, tmp_path / "there", "--seeds", 5, 6)
    assert done.returncode == 0, done.stderr
    table = tmp_path / "there/table.json"
    here = replace(config, output_dir=str(tmp_path / "here"))
    take_given(here, table)
    (found,) = finished_runs(here)
    assert found.metrics == {METRICS[1]: 2.5} and found.arguments == here.arguments("full", 5)
    found = replace(found, minutes=7.0)
    found.write(result_path(here, "full", 5))
    take_given(here, table)  # what is measured here stays
    assert finished_runs(here) == [found]
    changed = replace(
        here, rows={"full": "--train.max_steps 3"}, output_dir=str(tmp_path / "changed")
    )
    with pytest.raises(UserError, match=r"seed 5 was measured with .* --train\.max_steps 3"):
        take_given(changed, table)
    known = [vars(replace(found, base="that of another base"))]
    table.write_text(json.dumps(known))
    with pytest.raises(UserError, match=r"seed 5 was measured when .* said something else"):
        take_given(replace(here, output_dir=str(tmp_path / "changed")), table)
    done = run_tool("ablate", *take, tmp_path / "other", "--given", table_file)
    assert done.returncode == 2 and "name the .json beside a table" in done.stderr


def test_a_run_that_fails_shows_its_last_words(table_file: Path, run_tool, tmp_path) -> None:
    values = yaml.safe_load(table_file.read_text())
    # Other scenes than are there; the next row is not begun.
    values["rows"] = {"broken": "--task.data.scenes.num_train 3", "next": ""}
    values["output_dir"] = str(tmp_path / "runs")
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(values))
    done = run_tool("ablate", "--config", tmp_path / "table.yaml")
    assert done.returncode == 2
    assert "row 'broken', seed 5: train.py ended with exit code 2" in done.stderr
    assert "holds other scenes" in done.stderr
    assert not (tmp_path / "runs/next-5.log").exists()


def test_the_time_before_a_kill_counts_and_that_of_a_removed_run_does_not(tmp_path: Path) -> None:
    path = tmp_path / "full-5.seconds"
    _Clock(path, is_new=True).keep()
    assert 0 <= float(path.read_text()) < 60
    path.write_text("1000.0\n")
    again = _Clock(path, is_new=False)
    again.keep()
    assert 1000 <= again.seconds() < 1060 and float(path.read_text()) == again.seconds()
    new = _Clock(path, is_new=True)
    new.keep()
    assert new.seconds() < 60


def test_a_killed_ablation_leaves_nothing_running(table_file: Path, run_tool, tmp_path) -> None:
    values = yaml.safe_load(table_file.read_text())
    values |= {"output_dir": str(tmp_path / "runs"), "prepare": []}
    values["rows"] = {"full": "--train.max_steps 100000"}
    table = tmp_path / "table.yaml"
    table.write_text(yaml.safe_dump(values))
    command = [sys.executable, str(TOOLS / "ablate.py"), "--config", str(table)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(tmp_path / "runs/full-5/config.yaml")
            tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
            (child,) = " ".join(path.read_text() for path in tasks).split()
            second = run_tool("ablate", "--config", table)
        finally:
            process.kill()
    assert second.returncode == 2 and "another process is making" in second.stderr
    end = time.monotonic() + LIMIT
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < end, "the training goes on"
        time.sleep(0.05)


def test_a_preparation_that_fails_is_told(table_file: Path, run_tool, tmp_path: Path) -> None:
    values = yaml.safe_load(table_file.read_text())
    values["prepare"] = [f"rewrite --pairs {tmp_path}/none.jsonl --output {tmp_path}/out"]
    values["output_dir"] = str(tmp_path / "runs")
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(values))
    done = run_tool("ablate", "--config", tmp_path / "table.yaml")
    assert done.returncode == 2
    assert "prepare, line 1: prepare_data.py ended with exit code 2" in done.stderr
    assert "none.jsonl" in done.stderr


def test_means_and_deviations_are_those_of_the_seeds(table_file: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(table_file.read_text())
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    config = AblationConfig(**(values | {"seeds": (0, 1, 2)}))
    results = [Finished("full", seed, 2.0, {METRICS[0]: 0.1 * seed}) for seed in range(3)]
    results += [Finished("without contrastive", seed, 1.0, {}) for seed in range(3)]
    assert means_of(results, "full", METRICS[0]) == pytest.approx((0.1, 0.1))
    assert means_of(results, "without contrastive", METRICS[0]) is None
    page = as_markdown(config, results, "python tools/ablate.py")
    assert "| full | 0.100 ± 0.100 | - | 2.0 |" in page
    bounds = {f"{METRICS[0]}_low": 0.05, f"{METRICS[0]}_high": 0.2}
    once = [Finished("full", 0, 2.0, {METRICS[0]: 0.1} | bounds), *results[3:4]]
    page = as_markdown(replace(config, seeds=(0,)), once, "python tools/ablate.py")
    assert "| full | 0.100 (0.050-0.200) | - | 2.0 |" in page and "bootstrap" in page
    page = as_markdown(config, results[:2], "python tools/ablate.py")
    assert "So far 2 of 6 runs." in page and "| without" not in page
    draw(config, results[:2], tmp_path / "so_far.png")
    draw(replace(config, seeds=(0,)), once, tmp_path / "once.png")
    draw(config, results, tmp_path / "table.png")
    assert (tmp_path / "table.png").read_bytes()[:4] == b"\x89PNG"
