"""Published sets of texts become tables that the tasks read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.preparation.conftest import MODEL, manifest_of, write_json, write_lines
from unimo_paddle.errors import UserError
from unimo_paddle.preparation import coqa, glue, squad, summaries
from unimo_paddle.tasks.classification import ClassificationConfig
from unimo_paddle.tasks.dialogue import DialogueConfig
from unimo_paddle.tasks.language import LanguageConfig
from unimo_paddle.tasks.regression import RegressionConfig
from unimo_paddle.tasks.seq2seq import Seq2SeqConfig, SourceDataConfig

COLA = ("gj04\t1\t\tThe boats sailed home .", "cj99\t0\t*\tThe more boats home .")
SST2 = ("sentence\tlabel", "a warm and funny tale \t1", 'the plot is " thin \t0')
STSB_COLUMNS = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
STSB = (
    f"{STSB_COLUMNS}\tscore",
    "0\tmain\tvideo\t2012\t1\tnone\tnone\tA plane lands.\tA plane is landing.\t4.750",
    "1\tmain\tvideo\t2012\t2\tnone\tnone\tA man reads.\tA cat sleeps.\t0.000",
)
MNLI_COLUMNS = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
    "sentence1_parse\tsentence2_parse\tsentence1\tsentence2"
)
MNLI_ROW = "0\t31\t31n\tfiction\t( x )\t( y )\t(S x)\t(S y)\tShe went home.\tShe left.\tneutral"
MNLI = (f"{MNLI_COLUMNS}\tlabel1\tgold_label", f"{MNLI_ROW}\tneutral")
MNLI_DEV = (
    f"{MNLI_COLUMNS}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label",
    f"{MNLI_ROW}\tneutral\tneutral\tentailment\tneutral\tentailment",
)


@pytest.fixture
def read_classes(tmp_path: Path):
    """Read a table as classification does: (path, labels) -> its records."""

    def read(path: Path, labels: tuple[str, ...]) -> list:
        task = ClassificationConfig(labels=labels).build(MODEL, tmp_path / "assets")
        return list(task.read(path))

    return read


@pytest.fixture
def read_sources(tmp_path: Path):
    """Read a table as tasks that write do: (path, configuration) -> its records."""

    def read(path: Path, config: type = Seq2SeqConfig) -> list:
        task = config(
            data=SourceDataConfig(max_source_length=32),
            language=LanguageConfig(max_target_length=9),
        ).build(MODEL, tmp_path / "assets")
        return list(task.read(path))

    return read


def test_cola_without_a_header(run_import, read_classes, tmp_path: Path) -> None:
    write_lines(tmp_path / "CoLA/train.tsv", *COLA)
    write_lines(tmp_path / "CoLA/test.tsv", "index\tsentence", "0\tBoats home .")
    output = run_import(glue, "--set", "cola", "--input", "CoLA")
    records = read_classes(output / "train.tsv", ("0", "1"))
    assert [(x.label, x.text_a) for x in records] == [
        ("1", "The boats sailed home ."),
        ("0", "The more boats home ."),
    ]
    (bare,) = read_classes(output / "test.tsv", ("0", "1"))
    assert (bare.label, bare.text_a) == (None, "Boats home .")
    assert output == tmp_path / "data/cola" and not (output / "dev.tsv").exists()
    assert manifest_of(output)["parts"]["train.tsv"]["labels"] == {"1": 1, "0": 1}


def test_sst2_keeps_quotes_as_they_are(run_import, read_classes, tmp_path: Path) -> None:
    write_lines(tmp_path / "SST-2/train.tsv", *SST2)
    output = run_import(glue, "--set", "sst2", "--input", "SST-2")
    records = read_classes(output / "train.tsv", ("0", "1"))
    assert [(x.label, x.text_a) for x in records] == [
        ("1", "a warm and funny tale"),
        ("0", 'the plot is " thin'),
    ]


def test_stsb_scores(run_import, tmp_path: Path) -> None:
    write_lines(tmp_path / "STS-B/dev.tsv", *STSB)
    output = run_import(glue, "--set", "stsb", "--input", "STS-B")
    records = RegressionConfig().build(MODEL, tmp_path / "assets").read(output / "dev.tsv")
    assert [(float(x.label), x.text_a, x.text_b) for x in records] == [
        (4.75, "A plane lands.", "A plane is landing."),
        (0.0, "A man reads.", "A cat sleeps."),
    ]


def test_mnli_takes_the_gold_label(run_import, read_classes, tmp_path: Path) -> None:
    write_lines(tmp_path / "MNLI/train.tsv", *MNLI)
    write_lines(tmp_path / "MNLI/dev_matched.tsv", *MNLI_DEV)
    write_lines(tmp_path / "MNLI/test_mismatched.tsv", MNLI_COLUMNS, MNLI_ROW.rpartition("\t")[0])
    output = run_import(glue, "--set", "mnli", "--input", "MNLI")
    labels = ("entailment", "neutral", "contradiction")
    (train,) = read_classes(output / "train.tsv", labels)
    assert (train.label, train.text_a, train.text_b) == ("neutral", "She went home.", "She left.")
    (dev,) = read_classes(output / "dev_matched.tsv", labels)
    assert dev.label == "entailment"
    (test,) = read_classes(output / "test_mismatched.tsv", labels)
    assert (test.label, test.text_b) == (None, "She left.")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("gj04\t1\tBoats home .",), "train.tsv:1: 3 cells for the 4 columns source, label"),
        (("gj04\tyes\t\tBoats .",), "train.tsv:1: label 'yes' is none of 0, 1"),
        (("gj04\t1\t\t ",), "train.tsv:1: 'sentence' is empty"),
    ],
)
def test_a_table_of_bad_rows_is_one_line(run_import, tmp_path: Path, rows, message) -> None:
    write_lines(tmp_path / "CoLA/train.tsv", *rows)
    with pytest.raises(UserError) as caught:
        run_import(glue, "--set", "cola", "--input", "CoLA")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "data/cola").exists()


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("sst2", COLA, "train.tsv:1: no column sentence in the header"),
        ("stsb", (STSB[0], STSB[1].replace("4.750", "7")), "score '7' is no number from 0 to 5"),
        ("mnli", (MNLI[0], MNLI[1][:-7] + "-"), "label '-' is none of entailment"),
    ],
)
def test_a_table_of_another_set_is_one_line(run_import, tmp_path: Path, name, rows, message):
    write_lines(tmp_path / "tables/train.tsv", *rows)
    with pytest.raises(UserError) as caught:
        run_import(glue, "--set", name, "--input", "tables")
    assert message in str(caught.value)


def test_a_folder_without_tables_is_refused(run_import, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds none of train\.tsv, dev\.tsv, test\.tsv"):
        run_import(glue, "--set", "cola", "--input", "empty")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("val.source", "val.target"),
        ("dev.src", "dev.tgt"),
        ("valid.article.filter.txt", "valid.title.filter.txt"),
    ],
)
def test_parallel_lines(run_import, read_sources, tmp_path: Path, source, target) -> None:
    write_lines(tmp_path / "in" / source, "ships  sail\tfar .", "rain falls .")
    write_lines(tmp_path / "in" / target, "<t> ships sail </t>", "rain")
    output = run_import(summaries, "--set", "gigaword", "--input", "in")
    assert [(x.sources, x.target) for x in read_sources(output / "dev.tsv")] == [
        (("ships sail far .",), "ships sail"),
        (("rain falls .",), "rain"),
    ]


def test_parallel_files_of_other_lengths_are_refused(run_import, tmp_path: Path) -> None:
    write_lines(tmp_path / "in/train.source", "one", "two")
    write_lines(tmp_path / "in/train.target", "1")
    with pytest.raises(UserError, match=r"train\.target ends after line 1, but .*goes on"):
        run_import(summaries, "--set", "cnndm", "--input", "in")


def test_texts_in_lower_case(run_import, read_sources, tmp_path: Path) -> None:
    write_lines(tmp_path / "in/train.source", "Ships Sail")
    write_lines(tmp_path / "in/train.target", "SHIPS")
    output = run_import(summaries, "--set", "cnndm", "--input", "in", "--lower_case")
    (record,) = read_sources(output / "train.tsv")
    assert (record.sources, record.target) == (("ships sail",), "ships")


STORY = """Ships sailed on Monday .

They came back .

@highlight

Ships sailed

@highlight

They came back .
"""
ADDRESSES = ("http://example.org/ships", "http://example.org/gone")


def write_story(folder: Path, text: str) -> None:
    name = hashlib.sha1(ADDRESSES[0].encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.story").write_text(text, "utf-8")


def test_stories_of_an_address_list(run_import, read_sources, tmp_path: Path) -> None:
    write_story(tmp_path / "cnn/stories", STORY)
    write_lines(tmp_path / "lists/all_val.txt", *ADDRESSES)
    output = run_import(
        summaries, "--set", "cnndm", "--stories", "cnn/stories", "--url_lists", "lists"
    )
    (record,) = read_sources(output / "dev.tsv")
    assert record.sources == ("Ships sailed on Monday . They came back .",)
    assert record.target == "Ships sailed . They came back ."
    (bad,) = manifest_of(output)["parts"]["dev.tsv"]["bad"]
    assert bad["where"] == "lists/all_val.txt:2" and "there is no story" in bad["reason"]


def test_a_sentence_of_a_story_ends_with_its_line_alone(
    run_import, read_sources, tmp_path: Path
) -> None:
    write_story(tmp_path / "cnn", STORY.replace("Ships sailed\n", "Ships\u2028sailed\n"))
    write_lines(tmp_path / "lists/all_val.txt", ADDRESSES[0])
    options = ("--set", "cnndm", "--stories", "cnn", "--url_lists", "lists")
    (record,) = read_sources(run_import(summaries, *options) / "dev.tsv")
    assert record.target == "Ships sailed . They came back ."


def test_a_story_that_cannot_be_read_is_named(run_import, tmp_path: Path) -> None:
    write_story(tmp_path / "cnn", STORY)
    (story,) = (tmp_path / "cnn").iterdir()
    story.unlink()
    story.mkdir()
    write_lines(tmp_path / "lists/all_val.txt", ADDRESSES[0])
    with pytest.raises(
        UserError, match=r"all_val\.txt:1: .*\.story cannot be read: Is a directory"
    ):
        run_import(summaries, "--set", "cnndm", "--stories", "cnn", "--url_lists", "lists")


def test_a_story_without_highlights_is_one_line(run_import, tmp_path: Path) -> None:
    write_story(tmp_path / "cnn", "Ships sailed .\n")
    write_lines(tmp_path / "lists/all_val.txt", ADDRESSES[0])
    with pytest.raises(UserError, match=r"all_val\.txt:1: .*\.story has no @highlight"):
        run_import(summaries, "--set", "cnndm", "--stories", "cnn", "--url_lists", "lists")


CONTEXT = "The Nile flows north.\nIt is long."


def squad_file(path: Path, *titles: str, answer: str = "north", start: int = 15) -> Path:
    def article(title: str) -> dict:
        asked = {
            "id": f"{title}1",
            "question": f"Where does the {title} flow?",
            "answers": [{"text": answer, "answer_start": start}],
            "is_impossible": False,
        }
        impossible = {"id": "2", "question": "Why?", "answers": [], "is_impossible": True}
        return {"title": title, "paragraphs": [{"context": CONTEXT, "qas": [asked, impossible]}]}

    return write_json(path, {"version": "v2.0", "data": [article(title) for title in titles]})


def test_squad_becomes_answer_paragraph_question(run_import, read_sources, tmp_path: Path) -> None:
    squad_file(tmp_path / "train.json", "Nile")
    output = run_import(squad, "--train", "train.json")
    assert (output / "train.tsv").read_text().splitlines()[0] == "answer\tparagraph\ttgt"
    (record,) = read_sources(output / "train.tsv")
    assert record.sources == ("north", "The Nile flows north. It is long.")
    assert record.target == "Where does the Nile flow?"


def test_squad_is_divided_by_titles(run_import, read_sources, tmp_path: Path) -> None:
    squad_file(tmp_path / "train.json", "Nile", "Rhine")
    squad_file(tmp_path / "dev.json", "Volga")
    write_lines(tmp_path / "test.txt", "Rhine")
    output = run_import(
        *(squad, "--train", "train.json", "--dev", "dev.json", "--titles", "test=test.txt")
    )
    found = {split: read_sources(output / f"{split}.tsv") for split in ("train", "dev", "test")}
    rivers = {split: [x.target.split()[3] for x in records] for split, records in found.items()}
    assert rivers == {"train": ["Nile"], "dev": ["Volga"], "test": ["Rhine"]}


def test_an_answer_that_stands_elsewhere_is_one_line(run_import, tmp_path: Path) -> None:
    squad_file(tmp_path / "train.json", "Nile", start=3)
    with pytest.raises(UserError, match="answer 'north' does not stand at character 3") as caught:
        run_import(squad, "--train", "train.json")
    assert "train.json: data[0].paragraphs[0].qas[0]: " in str(caught.value)


def test_unknown_titles_are_refused(run_import, tmp_path: Path) -> None:
    squad_file(tmp_path / "train.json", "Nile")
    write_lines(tmp_path / "test.txt", "Rhine")
    with pytest.raises(UserError, match=r"test\.txt: there is no article 'Rhine'"):
        run_import(squad, "--train", "train.json", "--titles", "test=test.txt")


def coqa_file(path: Path, *, last_turn: int = 2, more: object = ()) -> Path:
    story = {
        "source": "gutenberg",
        "id": "story1",
        "filename": "boats.txt",
        "story": "Ann has a boat.\n\nIt is red.",
        "questions": [
            {"input_text": "What has Ann?", "turn_id": 1},
            {"input_text": "Which colour?", "turn_id": 2},
        ],
        "answers": [
            {
                "span_start": 0,
                "span_end": 3,
                "span_text": "boat",
                "input_text": "a boat",
                "turn_id": 1,
            },
            {
                "span_start": 9,
                "span_end": 12,
                "span_text": "red",
                "input_text": "red",
                "turn_id": last_turn,
            },
        ],
        "name": "boats.txt",
    }
    other = [{"input_text": text, "turn_id": turn} for turn, text in ((1, "boat"), (2, "dark red"))]
    story["additional_answers"] = {"0": other, "1": other[:1] if more == () else more}
    return write_json(path, {"version": "1.0", "data": [story]})


def test_coqa_becomes_a_row_a_turn(run_import, read_sources, tmp_path: Path) -> None:
    coqa_file(tmp_path / "dev.json")
    output = run_import(coqa, "--dev", "dev.json")
    first, second = read_sources(output / "dev.tsv", DialogueConfig)
    assert (first.knowledge, first.turns) == ("Ann has a boat. It is red.", ("What has Ann?",))
    assert second.turns == ("What has Ann?", "a boat", "Which colour?")
    assert (second.target, second.answers) == ("red", ("red", "dark red"))
    rows = [row.split("\t") for row in (output / "dev.tsv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["qid", "story1_1", "story1_2"]
    assert [row[-1] for row in rows] == [
        *("answers", '["a boat", "boat", "boat"]', '["red", "dark red"]')
    ]


def test_turns_in_lower_case_are_still_turns(run_import, read_sources, tmp_path: Path) -> None:
    coqa_file(tmp_path / "dev.json")
    output = run_import(coqa, "--dev", "dev.json", "--lower_case")
    _, second = read_sources(output / "dev.tsv", DialogueConfig)
    assert second.turns == ("what has ann?", "a boat", "which colour?")


def test_a_person_who_answered_nothing_is_no_damage(run_import, tmp_path: Path) -> None:
    coqa_file(tmp_path / "dev.json", more=[{"input_text": " ", "turn_id": 2}])
    output = run_import(coqa, "--dev", "dev.json")
    last = (output / "dev.tsv").read_text().splitlines()[-1]
    assert last.endswith('\t["red", "dark red", ""]')


@pytest.mark.parametrize("more", [None, 5, "red"])
def test_answers_of_people_that_are_no_list_are_named(run_import, tmp_path: Path, more) -> None:
    coqa_file(tmp_path / "dev.json", more=more)
    with pytest.raises(UserError, match=r"2 of 2 records .* data\[0\]: '1' is '.*', of the wrong"):
        run_import(coqa, "--dev", "dev.json")


def test_answers_of_another_turn_are_left_out(run_import, tmp_path: Path) -> None:
    coqa_file(tmp_path / "dev.json", last_turn=3)
    output = run_import(coqa, "--dev", "dev.json")
    (bad,) = manifest_of(output)["parts"]["dev.tsv"]["bad"]
    assert bad == {
        "where": "dev.json: data[0].questions[1]",
        "reason": "turn 2 is answered as turn 3",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": "1", "data": [{"title": "a", "para', "before any record of 'data'"),
        ('{"data": [{"title": "a", "paragraphs": []}, {"tit', "damaged or cut off after data[0]"),
        ('{"version": "1.0"}', "holds no list 'data' with records"),
        ('{"data": [3]}', "train.json: data[0]: record is no JSON object but '3'"),
    ],
)
def test_damaged_json_is_one_line(run_import, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(UserError) as caught:
        run_import(squad, "--train", "train.json")
    assert message in str(caught.value) and "train.json" in str(caught.value)
    assert "\n" not in str(caught.value)
