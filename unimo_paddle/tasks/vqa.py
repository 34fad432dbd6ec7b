"""Questions about images, VQA v2: an answer from a closed list.

The authors never released their program for it. This is the public recipe (Teney et al., 2018,
arXiv 1708.02711): a score for each of the frequent answers, learnt as independent probabilities
from the share of people who gave it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from unimo_paddle import losses
from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.publish import publish
from unimo_paddle.data.records import (
    Fault,
    Folder,
    check_text,
    gather,
    parse_object,
    read_lines,
    text_of,
    texts_of,
)
from unimo_paddle.data.regions.lookup import IMAGE_ID
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.intervals import mean_with_interval
from unimo_paddle.metrics.vqa import (
    answer_accuracy,
    answer_vocabulary,
    normalise_answer,
    soft_targets,
)
from unimo_paddle.models import ModelConfig, UnifiedTransformer
from unimo_paddle.models.heads import HEAD_DROPOUT
from unimo_paddle.models.transformer import Dropout, layer_norm, linear
from unimo_paddle.tasks.base import Arrays, TaskConfig, Tensors
from unimo_paddle.tasks.classification import check_dropout
from unimo_paddle.tasks.finetuning import TRAIN_SPLIT, Prediction, with_ids
from unimo_paddle.tasks.image_records import (
    Image,
    ImageDataConfig,
    ImageTask,
    check_text_length,
    id_of,
    once_each,
)
from unimo_paddle.tasks.pooling import check_pooling, pool_pair
from unimo_paddle.tasks.segments import TEXT_INPUTS, take
from unimo_paddle.tasks.visual_entailment import PAIR_FIELDS

logger = logging.getLogger(__name__)

ANSWERS_NAME = "answers.txt"  # the list of answers in a run's assets, one a line
NUM_SHOWN = 5  # answers of a prediction, best first


@TaskConfig.register_subclass("vqa")
@dataclass(frozen=True)
class VqaConfig(TaskConfig):
    """An answer to a question about an image."""

    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    answers: str | None = None  # file of the answers, one a line; none: the training file's own
    num_answers: int = 3129  # most answers taken from the training file, the most frequent ones
    head_dropout: float = HEAD_DROPOUT  # before the answers
    pooling: str = "first"  # what is read of text and image: first, mean, mask

    def __post_init__(self) -> None:
        check_dropout(self.head_dropout)
        check_pooling(self.pooling, self.data)
        if self.num_answers < 2:
            raise UserError(f"task.num_answers is {self.num_answers}; give at least 2")
        if self.data.source == "original":
            raise UserError(
                "task.data.source original: the authors released no questions; choose files or "
                "scenes"
            )
        if self.data.is_original:
            raise UserError(
                "task.data.compatibility original: the authors released no program for questions; "
                "choose standard"
            )

    def build(self, model: ModelConfig, assets_dir: Path) -> VqaTask:
        """Make the task for a model of these sizes."""
        return VqaTask(self, model, assets_dir)


@dataclass(frozen=True)
class QuestionRecord:
    """An image, a question and what people answered: ten answers in VQA, or the one right one.

    Args:
        kind: what is asked for, where that is known.
        image_name: equal for questions about one image.
    """

    image: Image
    question: str
    answers: tuple[str, ...] = ()
    kind: str | None = None
    id: str | None = None
    image_name: str | None = None


class AnswerHead(nn.Layer):
    """A score of every answer from the sum of pooled text and image."""

    def __init__(self, config: ModelConfig, num_answers: int, dropout: float) -> None:
        super().__init__()
        size, scale = 2 * config.hidden_size, config.initializer_range
        self.dropout = Dropout(dropout)
        self.expand = linear("vqa_fc_0", config.hidden_size, size, scale)
        self.norm = layer_norm("vqa_layer_norm", size, config.layer_norm_eps)
        self.output = linear("vqa_fc_1", size, num_answers, scale)

    def forward(self, pooled_text: Tensor, pooled_image: Tensor) -> Tensor:
        """Return logits [B, num_answers] from two [B, D]."""
        hidden = self.norm(F.gelu(self.expand(pooled_text + pooled_image)))
        return self.output(self.dropout(hidden))


class VqaNetwork(nn.Layer):
    """Encodes an image with a question; a head reads both, pooled."""

    def __init__(self, model: ModelConfig, num_answers: int, dropout: float, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.transformer = UnifiedTransformer(model)
        self.head = AnswerHead(model, num_answers, dropout)

    def forward(self, batch: Tensors) -> Tensor:
        """Return logits [B, num_answers]."""
        encoding = self.transformer(**take(batch, PAIR_FIELDS))
        return self.head(*pool_pair(self.transformer, encoding, batch, self.pooling))


class VqaTask(ImageTask):
    """See the module."""

    scenes_prefix = "questions_"

    def __init__(self, config: VqaConfig, model: ModelConfig, assets_dir: Path) -> None:
        super().__init__(config.data, model, assets_dir)
        check_text_length(config.data, model)
        self.config = config
        self.pooling = config.pooling
        self.inputs = (*self.image_inputs, *TEXT_INPUTS)
        saved = assets_dir / ANSWERS_NAME
        self._answers = read_answers(saved) if saved.is_file() else None

    # ---- the list of answers

    @property
    def answers(self) -> dict[str, int]:
        """The answers with their places; there are some as soon as the task is prepared."""
        assert self._answers is not None, "prepare the task first"
        return self._answers

    @property
    def num_answers(self) -> int:
        """Answers in the list; before there is one, the most that it may hold."""
        return self.config.num_answers if self._answers is None else len(self._answers)

    @property
    def targets(self) -> tuple[Field, ...]:
        """A score from 0 to 1 of each answer."""
        return (Field("answer_scores", (self.num_answers,), "float32", 0),)

    def prepare(self, seed: int) -> None:
        """Make the vocabulary and the list of answers, where absent."""
        super().prepare(seed)
        if self._answers is None:
            self._answers = self._find_answers()
            self.save_assets(self.assets_dir)

    def _find_answers(self) -> dict[str, int]:
        if self.config.answers is not None:
            return read_answers(Path(self.config.answers))
        # As the public recipe: what most people say to a question stands for it.
        records = self.read_split(TRAIN_SPLIT)
        common = [most_common(record.answers) for record in records if record.answers]
        return answer_vocabulary(common, size=self.config.num_answers)

    def save_assets(self, folder: Path) -> None:
        """Write the vocabulary and the list of answers."""
        super().save_assets(folder)
        if self._answers is not None:
            text = "".join(f"{answer}\n" for answer in self._answers)
            publish(folder / ANSWERS_NAME, lambda path: path.write_text(text, "utf-8"))

    # ---- host half

    def read(self, path: Path) -> Sequence[QuestionRecord]:
        """The records of a file of JSON lines."""
        folder = Folder(path.parent)
        parse = once_each(lambda item: self.parse_with(item, folder.find))
        return gather(
            path,
            read_lines(path),
            lambda line: parse(parse_object(line)),
            bad_record_limit=self.data.bad_record_limit,
        )

    def read_original(self, path: Path) -> Sequence[QuestionRecord]:
        """Nothing: there are no such files, and the settings refuse them."""
        raise AssertionError("the authors released no questions")

    def parse_with(self, item: Mapping[str, Any], find: Callable[[str], Path]) -> QuestionRecord:
        """A record from the image, ``question`` and, if there, answers, kind and id."""
        item = dict(item)
        question = text_of(item, "question")
        if item.get("answer") is not None:
            answers: tuple[str, ...] = (check_text(item["answer"], "answer"),)
        else:
            answers = texts_of(item, "answers", may_be_empty=True)
        kind = text_of(item, "kind") if item.get("kind") is not None else None
        # Of several answers each may be: the question counts whatever people said, as officially.
        if len(answers) == 1 and not normalise_answer(answers[0]):
            raise Fault(f"answer {answers[0]!r} is empty after normalisation")
        name = item.get(IMAGE_ID) or item.get("image")
        name = str(name) if isinstance(name, str | int) else None
        image = self.image_of(item, find)
        return QuestionRecord(image, question, answers, kind, id_of(item), name)

    def texts(self, record: QuestionRecord) -> Iterable[str]:
        """The question."""
        return [record.question]

    def encode(self, record: QuestionRecord, rng: np.random.Generator | None = None) -> Sample:
        """The rows of the image, and ``[CLS] question [SEP]``."""
        said = (record.question, *record.answers)
        return self.encode_image(record.image, rng, said) | self.encode_text(record.question)

    def encode_targets(self, record: QuestionRecord) -> Sample:
        """The score of every answer."""
        return {"answer_scores": self.scores(record)}

    def scores(self, record: QuestionRecord) -> np.ndarray:
        """The score of every answer: 1 for a single right one, else by how many people gave it."""
        if len(record.answers) > 1:
            return soft_targets(record.answers, self.answers)
        scores = np.zeros(len(self.answers), np.float32)
        place = self.answers.get(normalise_answer(record.answers[0]))
        if place is not None:
            scores[place] = 1.0
        return scores

    def is_labelled(self, record: QuestionRecord) -> bool:
        """Whether the record has answers."""
        return bool(record.answers)

    def training_streams(self, batch_size: int) -> tuple[Stream, ...]:
        """As every task's, without the questions that no answer of the list is right for."""
        (stream,) = super().training_streams(batch_size)
        known = [n for n, record in enumerate(stream.records) if self._is_answerable(record)]
        missing = len(stream.records) - len(known)
        if not missing:
            return (stream,)
        if not known:
            raise UserError(
                f"none of the {len(self.answers)} answers is one to the questions of "
                f"{self.split_path(TRAIN_SPLIT)}; choose another file for task.answers"
            )
        logger.warning(
            "%d of %d training questions are left out: all their answers are outside the list",
            missing,
            len(stream.records),
        )
        return (replace(stream, records=[stream.records[n] for n in known]),)

    def _is_answerable(self, record: QuestionRecord) -> bool:
        return any(normalise_answer(answer) in self.answers for answer in record.answers)

    def predictions(self, split: str, serve: Callable[..., Arrays]) -> list[Prediction]:
        """As every task's, with the ``id`` of a record that has one."""
        return with_ids(super().predictions(split, serve), self.read_split(split))

    def decode(self, outputs: Arrays) -> list[Prediction]:
        """The best answer, and the probabilities of the best ones by name."""
        names = list(self.answers)
        decoded = []
        for places, scores in zip(outputs["answers"], outputs["scores"], strict=True):
            best = {names[place]: float(x) for place, x in zip(places, scores, strict=True)}
            decoded.append({"answer": next(iter(best)), "probabilities": best})
        return decoded

    def measure(
        self, predictions: Sequence[Prediction], records: Sequence[QuestionRecord]
    ) -> dict[str, float]:
        """The accuracy, and that of each kind; questions about an image are drawn together."""
        pairs = zip(predictions, records, strict=True)
        scores = np.array([accuracy_of(item["answer"], record.answers) for item, record in pairs])
        images = np.array([x.image_name or f"record {n}" for n, x in enumerate(records)])
        values = mean_with_interval("accuracy", scores, images.tolist())
        kinds = np.array([record.kind or "" for record in records])
        for kind in sorted(set(kinds) - {""}):
            is_of = kinds == kind
            values |= mean_with_interval(f"accuracy_{kind}", scores[is_of], images[is_of].tolist())
        return values

    # ---- graph half

    def build_network(self) -> VqaNetwork:
        """Make the Transformer with the layers for the answers."""
        config = self.config
        return VqaNetwork(self.model, self.num_answers, config.head_dropout, config.pooling)

    def loss(self, network: VqaNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The binary cross entropy of all answers, and the mean score of the best one."""
        logits, scores = network(batch), batch["answer_scores"]
        best = paddle.argmax(logits, axis=1, keepdim=True)
        return {
            "loss": losses.binary_cross_entropy(logits, scores, paddle.ones_like(scores[:, 0])),
            "score": paddle.take_along_axis(scores, best, axis=1).mean(),
        }

    def predict(self, network: VqaNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The best answers by their places, and their probabilities, best first."""
        count = min(NUM_SHOWN, self.num_answers)
        scores, answers = paddle.topk(F.sigmoid(network(batch)), count, axis=1)
        return {"scores": scores, "answers": answers}


def read_answers(path: Path) -> dict[str, int]:
    """Read a list of answers, one a line; return them normalised, with their places."""
    lines = [normalise_answer(line) for _, line in read_lines(path) if isinstance(line, str)]
    answers = list(dict.fromkeys(line for line in lines if line))
    if not answers:
        raise UserError(f"list of answers {path} holds none; give one a line")
    if len(answers) < len(lines):
        logger.warning(
            "%s: %d of %d lines are empty or an answer again, after normalisation",
            path,
            len(lines) - len(answers),
            len(lines),
        )
    return {answer: place for place, answer in enumerate(answers)}


def most_common(answers: Sequence[str]) -> str:
    """The answer that most people gave, normalised; of several the first."""
    return Counter(map(normalise_answer, answers)).most_common(1)[0][0]


def accuracy_of(answer: str, answers: Sequence[str]) -> float:
    """The score of a predicted answer: by VQA's rule, or 1 for a single right one."""
    if len(answers) > 1:
        return answer_accuracy(answer, answers)
    return float(normalise_answer(answer) == normalise_answer(answers[0]))
