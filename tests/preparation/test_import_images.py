"""Published sets of images with texts become JSON lines that the tasks read."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import pytest

from tests.preparation.conftest import (
    MODEL,
    manifest_of,
    write_json,
    write_lines,
    write_pictures,
)
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.sources import read_pairs
from unimo_paddle.errors import UserError
from unimo_paddle.preparation import coco, conceptual, flickr, karpathy, snli_ve, vqa
from unimo_paddle.tasks.captioning import CaptionDataConfig, CaptioningConfig
from unimo_paddle.tasks.image_records import ImageDataConfig
from unimo_paddle.tasks.retrieval import RetrievalConfig
from unimo_paddle.tasks.retrieval_data import RetrievalDataConfig
from unimo_paddle.tasks.visual_entailment import EntailmentDataConfig, VisualEntailmentConfig
from unimo_paddle.tasks.vqa import VqaConfig, read_answers

IMAGE = {"image": ImageConfig(image_size=32, patch_size=8)}
NAMES = [f"COCO_{folder}2014_{number:012d}.jpg" for folder, number in (("train", 9), ("val", 42))]
TRAIN, VAL = NAMES


@pytest.fixture
def coco_images(tmp_path: Path) -> Path:
    """Images as COCO's archives lay them."""
    return write_pictures(tmp_path / "coco_images", f"train2014/{TRAIN}", f"val2014/{VAL}")


def karpathy_file(path: Path, **changes: object) -> Path:
    def image(number: int, name: str, split: str, *captions: str) -> dict:
        return {
            "filepath": f"{name.split('_')[1]}",
            "sentids": [number],
            "filename": name,
            "imgid": number,
            "split": split,
            "sentences": [
                {"tokens": text.split(), "raw": text, "imgid": number, "sentid": number}
                for text in captions
            ],
            "cocoid": 100 + number,
        }

    images = [
        image(0, TRAIN, "train", "A  boat\nsails.", "The boat."),
        image(1, VAL, "restval", "A red bus."),
        image(2, VAL, "val", "A bus."),
        image(3, VAL, "test", "It is a bus.") | changes,
    ]
    return write_json(path, {"images": images, "dataset": "coco"})


def test_karpathys_splits(run_import, tmp_path: Path, coco_images: Path) -> None:
    karpathy_file(tmp_path / "dataset_coco.json")
    options = ("--set", "coco", "--input", "dataset_coco.json", "--images", "coco_images")
    output = run_import(karpathy, *options)
    data = CaptionDataConfig(with_tags=False, **IMAGE)
    task = CaptioningConfig(data=data).build(MODEL, tmp_path / "assets")
    train = task.read(output / "train.jsonl")
    assert [(x.image_id, x.caption) for x in train] == [
        ("100", "A boat sails."),
        ("100", "The boat."),
        ("101", "A red bus."),
    ]
    assert train[0].image == output / "images/train2014" / TRAIN
    assert [x.caption for x in task.read(output / "dev.jsonl")] == ["A bus."]
    assert [x.caption for x in task.read(output / "test.jsonl")] == ["It is a bus."]
    assert manifest_of(output)["parts"]["train.jsonl"]["captions_per_image"] == {"1": 1, "2": 1}


def test_restval_may_be_left_out(run_import, tmp_path: Path, coco_images: Path) -> None:
    karpathy_file(tmp_path / "dataset_coco.json")
    options = ("--set", "coco", "--input", "dataset_coco.json", "--images", "coco_images")
    output = run_import(karpathy, *options, "--without_restval")
    assert len(read_pairs(output / "train.jsonl")) == 1


def test_a_flat_folder_and_no_folder_name(run_import, tmp_path: Path) -> None:
    write_pictures(tmp_path / "flickr30k-images", TRAIN, VAL)
    path = karpathy_file(tmp_path / "dataset_flickr30k.json")
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["filepath"], image["cocoid"]
    write_json(path, content)
    options = ("--set", "flickr30k", "--input", path, "--images", "flickr30k-images")
    output = run_import(karpathy, *options)
    data = RetrievalDataConfig(**IMAGE)
    task = RetrievalConfig(data=data).build(MODEL, tmp_path / "assets")
    table = task.read(output / "train.jsonl")
    assert table.captions == ["A boat sails.", "The boat.", "A red bus."]
    assert table.owners.tolist() == [0, 0, 1]


def test_a_set_of_regions_needs_no_image_files(run_import, tmp_path: Path) -> None:
    karpathy_file(tmp_path / "dataset_coco.json")
    options = ("--set", "coco", "--input", "dataset_coco.json", "--no_images")
    output = run_import(karpathy, *options)
    first = json.loads((output / "train.jsonl").read_text().splitlines()[0])
    assert first["image"] == f"train2014/{TRAIN}" and first["id"] == "100"
    assert not (output / "images").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentences": []}, "images[3]: 'sentences' is empty"),
        ({"sentences": [{"tokens": []}]}, "images[3].sentences[0]: key 'raw' is missing; found"),
        ({"filename": 5}, "images[3]: 'filename' is '5', of the wrong kind"),
        ({"filename": "gone.jpg"}, "none of the images that it names are there, such as 'val2014/"),
    ],
)
def test_a_damaged_image_of_karpathy(run_import, tmp_path, coco_images, changes, message) -> None:
    karpathy_file(tmp_path / "dataset_coco.json", **changes)
    options = ("--set", "coco", "--input", "dataset_coco.json", "--images", "coco_images")
    with pytest.raises(UserError) as caught:
        run_import(karpathy, *options)
    assert message in str(caught.value) and "dataset_coco.json" in str(caught.value)


def test_a_damaged_caption_of_karpathy_leaves_the_others(run_import, tmp_path, coco_images) -> None:
    sentences = [{"raw": "It is a bus."}, {"raw": " "}, {"raw": "A bus."}]
    karpathy_file(tmp_path / "dataset_coco.json", sentences=sentences)
    options = ("--set", "coco", "--input", "dataset_coco.json", "--images", "coco_images")
    output = run_import(karpathy, *options)
    assert read_pairs(output / "test.jsonl")[0].captions == ("It is a bus.", "A bus.")
    (bad,) = manifest_of(output)["parts"]["test.jsonl"]["bad"]
    assert bad["where"].endswith("images[3].sentences[1]") and bad["reason"] == "'raw' is empty"


def test_an_unknown_split_is_named(run_import, tmp_path: Path, coco_images: Path) -> None:
    karpathy_file(tmp_path / "dataset_coco.json", split="val2")
    content = json.loads((tmp_path / "dataset_coco.json").read_text())
    content["images"].append(content["images"][3] | {"split": "test"})
    write_json(tmp_path / "dataset_coco.json", content)
    options = ("--set", "coco", "--input", "dataset_coco.json", "--images", "coco_images")
    output = run_import(karpathy, *options)
    (bad,) = manifest_of(output)["parts"]["train.jsonl"]["bad"]
    assert bad["where"].endswith("images[3]") and "split 'val2' is none of" in bad["reason"]


def test_a_split_that_is_no_text_is_named(run_import, tmp_path: Path, coco_images: Path) -> None:
    karpathy_file(tmp_path / "dataset_coco.json")
    content = json.loads((tmp_path / "dataset_coco.json").read_text())
    content["images"].append(content["images"][3] | {"split": ["test"]})
    write_json(tmp_path / "dataset_coco.json", content)
    options = ("--set", "coco", "--input", "dataset_coco.json", "--images", "coco_images")
    (bad,) = manifest_of(run_import(karpathy, *options))["parts"]["train.jsonl"]["bad"]
    assert bad["where"].endswith("images[4]") and "of the wrong kind" in bad["reason"]


def coco_file(path: Path, *annotations: dict) -> Path:
    images = [
        {"license": 5, "file_name": TRAIN, "height": 24, "width": 32, "id": 9},
        {"license": 5, "file_name": VAL, "height": 24, "width": 32, "id": 42},
    ]
    content = {"info": {"year": 2014}, "images": images, "licenses": []}
    return write_json(path, content | {"annotations": list(annotations)})


def test_coco_captions(run_import, tmp_path: Path, coco_images: Path) -> None:
    coco_file(
        tmp_path / "captions_train2014.json",
        {"image_id": 42, "id": 1, "caption": "A bus."},
        {"image_id": 9, "id": 2, "caption": "A boat.\n"},
        {"image_id": 9, "id": 3, "caption": " "},
        {"image_id": 77, "id": 4, "caption": "A cat."},
        {"image_id": 9, "id": 5, "caption": "Sea."},
    )
    options = ("--train", "captions_train2014.json", "--images", "coco_images")
    output = run_import(coco, *options)
    records = read_pairs(output / "train.jsonl")
    assert [x.captions for x in records] == [("A boat.", "Sea."), ("A bus.",)]
    bad = manifest_of(output)["parts"]["train.jsonl"]["bad"]
    assert [(x["where"].split(": ")[1], x["reason"]) for x in bad] == [
        ("annotations[2]", "'caption' is empty"),
        ("annotations[3]", "image_id 77 is none of the images"),
    ]


def test_an_image_without_annotation_is_named(run_import, tmp_path, coco_images) -> None:
    coco_file(tmp_path / "captions.json", {"image_id": 42, "id": 1, "caption": "A bus."})
    output = run_import(coco, "--dev", "captions.json", "--images", "coco_images")
    (bad,) = manifest_of(output)["parts"]["dev.jsonl"]["bad"]
    assert bad["reason"] == "no annotation is about image 9"


TOKENS = (
    "1_a.jpg#0\tA child climbs , slowly .",
    "2_b.jpg#0\tA dog .",
    "1_a.jpg#1\tA girl .",
    "3_c.jpg.1#0\tTwo dogs .",
)
TABLE = (
    "image,caption",
    '1_a.jpg,"A child climbs , slowly ."',
    "2_b.jpg,A dog .",
    "1_a.jpg,A girl .",
)


@pytest.mark.parametrize("lines", [TOKENS, TABLE], ids=["tokens", "table"])
def test_flickr8k_with_lists(run_import, tmp_path: Path, lines) -> None:
    write_pictures(tmp_path / "Images", "1_a.jpg", "2_b.jpg")
    write_lines(tmp_path / "captions.txt", *lines)
    write_lines(tmp_path / "train.txt", "1_a.jpg")
    write_lines(tmp_path / "dev.txt", "2_b.jpg")
    output = run_import(
        *(flickr, "--captions", "captions.txt", "--images", "Images"),
        *("--train", "train.txt", "--dev", "dev.txt"),
    )
    (train,), (dev,) = (read_pairs(output / f"{split}.jsonl") for split in ("train", "dev"))
    assert train.captions == ("A child climbs , slowly .", "A girl .")
    assert dev.captions == ("A dog .",)


def test_flickr8k_without_lists_is_all_to_train(run_import, tmp_path: Path) -> None:
    write_pictures(tmp_path / "Images", "1_a.jpg", "2_b.jpg")
    write_lines(tmp_path / "Flickr8k.token.txt", *TOKENS, "no tab", "4.jpg\tno number")
    output = run_import(flickr, "--captions", "Flickr8k.token.txt", "--images", "Images")
    assert len(read_pairs(output / "train.jsonl")) == 2
    part = manifest_of(output)["parts"]["train.jsonl"]
    assert part["missing"] == ["3_c.jpg.1"]
    assert [bad["where"].split(":")[1] for bad in part["bad"]] == ["4", "5", "6"]
    assert part["bad"][2]["reason"].startswith("line is not name#number, a tab and a caption")


def test_a_listed_image_without_captions_is_named(run_import, tmp_path: Path) -> None:
    write_pictures(tmp_path / "Images", "1_a.jpg", "2_b.jpg")
    write_lines(tmp_path / "captions.txt", *TABLE)
    write_lines(tmp_path / "train.txt", "1_a.jpg", "9_z.jpg")
    options = ("--captions", "captions.txt", "--images", "Images", "--train", "train.txt")
    output = run_import(flickr, *options)
    (bad,) = manifest_of(output)["parts"]["train.jsonl"]["bad"]
    assert bad["reason"] == "there is no caption of image '9_z.jpg'"


def entailment_line(**changes: object) -> str:
    line = {
        "Flickr30K_ID": "1_a",
        "annotator_labels": ["neutral"] * 5,
        "captionID": "1_a.jpg#2",
        "gold_label": "neutral",
        "pairID": "1_a.jpg#2r1n",
        "sentence1": "A child climbs .",
        "sentence2": "The child is late .",
    }
    return json.dumps(line | changes)


def test_snli_ve(run_import, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", "1_a.jpg")
    lines = [
        entailment_line(),
        entailment_line(gold_label="-", pairID="1_a.jpg#2r1x"),
        entailment_line(),
        "{",
    ]
    write_lines(tmp_path / "SNLI-VE/snli_ve_dev.jsonl", *lines)
    output = run_import(snli_ve, "--input", "SNLI-VE", "--images", "images")
    data = EntailmentDataConfig(**IMAGE)
    task = VisualEntailmentConfig(data=data).build(MODEL, tmp_path / "assets")
    (record,) = task.read(output / "dev.jsonl")
    assert (record.id, record.label) == ("1_a.jpg#2r1n", "neutral")
    assert record.hypothesis == "The child is late ."
    reasons = [bad["reason"] for bad in manifest_of(output)["parts"]["dev.jsonl"]["bad"]]
    assert reasons == [
        "gold_label '-' is none of entailment, neutral, contradiction",
        "id '1_a.jpg#2r1n' occurred before",
        "line is not JSON: '{'",
    ]


def vqa_files(folder: Path, *annotations: dict) -> tuple[Path, Path]:
    questions = [
        {"image_id": 9, "question": "Is it a boat?", "question_id": 9000},
        {"image_id": 9, "question": "How many?", "question_id": 9001},
    ]
    head = {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {}}
    head["data_subtype"] = "train2014"
    return (
        write_json(folder / "questions.json", head | {"questions": questions}),
        write_json(folder / "annotations.json", head | {"annotations": list(annotations)}),
    )


def annotation(number: int, kind: str, *answers: str) -> dict:
    return {
        "question_type": "is it",
        "multiple_choice_answer": answers[0],
        "answers": [
            {"answer": text, "answer_confidence": "yes", "answer_id": place}
            for place, text in enumerate(answers, 1)
        ],
        "image_id": 9,
        "answer_type": kind,
        "question_id": number,
    }


YES = annotation(9000, "yes/no", *["yes"] * 7, *["no"] * 3)
TWO = annotation(9001, "number", *["2"] * 5, *["two boats"] * 5)


def test_vqa_questions_with_answers(run_import, tmp_path: Path, coco_images: Path) -> None:
    files = vqa_files(tmp_path, YES, TWO)
    options = ("--train", *files, "--test", files[0], "--images", "coco_images")
    output = run_import(vqa, *options, "--min_count", 1)
    data = ImageDataConfig(**IMAGE)
    task = VqaConfig(data=data).build(MODEL, tmp_path / "assets")
    first, second = task.read(output / "train.jsonl")
    assert (first.id, first.question, first.kind) == ("9000", "Is it a boat?", "yes/no")
    assert first.answers == ("yes",) * 7 + ("no",) * 3
    assert second.answers == ("2",) * 5 + ("two boats",) * 5
    assert [x.answers for x in task.read(output / "test.jsonl")] == [(), ()]
    assert list(read_answers(output / "answers.txt")) == ["2", "yes"]
    (remark,) = manifest_of(output)["remarks"]
    assert "100.0% of train.jsonl" in remark


def test_vqa_questions_to_which_somebody_said_nothing(
    run_import, tmp_path: Path, coco_images: Path
) -> None:
    """The official program counts them, so the denominator must."""
    files = vqa_files(tmp_path, YES, annotation(9001, "number", *[""] * 6, *["2"] * 4))
    options = ("--dev", *files, "--images", "coco_images", "--min_count", 1)
    output = run_import(vqa, *options)
    task = VqaConfig(data=ImageDataConfig(**IMAGE)).build(MODEL, tmp_path / "assets")
    _, second = task.read(output / "dev.jsonl")
    assert second.answers == ("",) * 6 + ("2",) * 4
    assert list(read_answers(output / "answers.txt")) == ["yes"]


def test_somebodys_list_of_answers_is_not_overwritten(
    run_import, tmp_path: Path, coco_images: Path
) -> None:
    files = vqa_files(tmp_path, YES, TWO)
    mine = write_lines(tmp_path / "data/vqa/answers.txt", "mine")
    options = ("--train", *files, "--images", "coco_images", "--min_count", 1)
    with pytest.raises(UserError, match=r"answers\.txt is there and was not imported"):
        run_import(vqa, *options)
    assert mine.read_text() == "mine\n"
    run_import(vqa, *options, "--replace")
    assert mine.read_text() == "2\nyes\n"


def test_rare_answers_leave_no_list(run_import, tmp_path: Path, coco_images: Path) -> None:
    files = vqa_files(tmp_path, YES, TWO)
    with pytest.raises(UserError, match="none of 2 answers occurs 9 times; lower min_count"):
        run_import(vqa, "--train", *files, "--images", "coco_images")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (annotation(9009, "number", "2"), "questions[1]: question 9001 has no annotation in"),
        (TWO | {"answers": []}, "annotations[1]: 'answers' is empty"),
        (TWO | {"answers": [{"text": "2"}]}, "annotations[1]: key 'answer' is missing"),
    ],
)
def test_damaged_annotations_of_vqa(run_import, tmp_path, coco_images, second, message) -> None:
    files = vqa_files(tmp_path, YES, second)
    options = ("--train", *files, "--images", "coco_images", "--min_count", 1)
    (bad,) = manifest_of(run_import(vqa, *options))["parts"]["train.jsonl"]["bad"]
    assert message in f"{bad['where']}: {bad['reason']}"


ADDRESS = "http://example.org/a.jpg"
PATTERNS = {
    "{row:09d}.jpg": "000000001.jpg",
    "{md5}.jpg": f"{hashlib.md5(ADDRESS.encode()).hexdigest()}.jpg",
    "training/{row}_{crc32}": f"training/1_{zlib.crc32(ADDRESS.encode())}",
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_conceptual_captions_with_local_images(run_import, tmp_path: Path, pattern) -> None:
    write_pictures(tmp_path / "cc", "x.jpg")
    target = tmp_path / "cc" / PATTERNS[pattern]
    target.parent.mkdir(exist_ok=True)
    (tmp_path / "cc/x.jpg").rename(target)
    rows = [f"boat {number}\thttp://example.org/{number}.jpg" for number in range(30)]
    rows[1] = f"a boat at sea\t{ADDRESS}"
    write_lines(tmp_path / "train.tsv", *rows, "no address")
    options = ("--train", "train.tsv", "--images", "cc", "--image_name", pattern)
    output = run_import(conceptual, *options)
    (record,) = read_pairs(output / "train.jsonl")
    assert record.captions == ("a boat at sea",)
    part = manifest_of(output)["parts"]["train.jsonl"]
    assert (part["missing_images"], part["bad_records"]) == (29, 1)


@pytest.mark.parametrize("pattern", ["{url}.jpg", "{row[0]}.jpg", "{row.x}.jpg", "{.jpg"])
def test_a_pattern_of_unknown_parts_is_refused(run_import, tmp_path: Path, pattern: str) -> None:
    write_pictures(tmp_path / "cc", "x.jpg")
    write_lines(tmp_path / "train.tsv", f"a boat\t{ADDRESS}")
    options = ("--train", "train.tsv", "--images", "cc", "--image_name", pattern)
    with pytest.raises(UserError, match=r"is no pattern of \{row\}, \{md5\} and \{crc32\}"):
        run_import(conceptual, *options)
