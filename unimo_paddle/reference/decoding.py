"""Replays of the original's beam search: every text, every score on its way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from paddle import Tensor

from unimo_paddle.data.fields import Sample, collate
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.models.search import GenerationConfig
from unimo_paddle.program import Runner, build_forward
from unimo_paddle.reference.layouts import region_fields, tag_fields
from unimo_paddle.reference.networks import NO_ASSETS, restore
from unimo_paddle.reference.recordings import Recording
from unimo_paddle.tasks.base import Tensors
from unimo_paddle.tasks.captioning import CaptionDataConfig, CaptioningConfig, CaptioningTask
from unimo_paddle.tasks.dialogue import DialogueConfig
from unimo_paddle.tasks.seq2seq import Seq2SeqConfig, Seq2SeqTask, SourceDataConfig
from unimo_paddle.tasks.writing import text_of_ids, write_texts

SCORE_TOLERANCE = 1e-4
CLOSE_CALL = 1e-4  # a smaller recorded margin may tip either way
SPECIAL_NAMES = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
OUTPUT_BIAS = "mask_lm_out_fc.b_0"


def check_decoding(recording: Recording) -> None:
    """Write all texts of each case, and compare ids, scores and the best text."""
    stem = recording.name.removesuffix(".json")
    inputs = recording.home.arrays(f"{stem}_inputs.npz")
    biases = recording.home.arrays("decode_out_bias.npz")
    for number, case in enumerate(recording.content):
        _check_case(recording, f"case {number}", case, inputs, biases)


def _check_case(
    recording: Recording,
    name: str,
    case: Mapping[str, Any],
    inputs: Mapping[str, np.ndarray],
    biases: Mapping[str, np.ndarray],
) -> None:
    end_token = case["eos_id"]
    recorded = _inputs_of(case, inputs)
    task = _task_of(recording, recorded)
    config = GenerationConfig(
        beam_size=case["beam_size"],
        num_texts=case["beam_size"],
        length_penalty=case["length_penalty"],
        min_length=case["min_out_len"],
        max_length=case["max_out_len"],
        block_word_trigrams=case["block_trigram"],
    )
    tokenizer = recording.home.small_tokenizer

    def compute(network: Any, batch: Tensors) -> dict[str, Tensor]:
        return write_texts(network, batch, config, end_token=end_token, tokenizer=tokenizer)

    runner = Runner()
    program = build_forward(task, task.encoded, compute)
    restore(recording, runner, program)
    bias = biases[f"{case['out_bias']}/eos{end_token}"]
    runner.restore(program, {OUTPUT_BIAS: bias})
    outputs = runner.run(program, collate(_samples(recorded), task.encoded))
    for sample, margin in enumerate(case["min_margin"]):
        if margin < CLOSE_CALL:
            continue
        texts, scores = outputs["tokens"][sample], outputs["step_scores"][sample]
        for rank, (ids, steps) in enumerate(
            zip(case["ids"][sample], case["scores"][sample], strict=True)
        ):
            where = f"{name}, sample {sample}, text {rank}"
            count = len(ids) - 1
            recording.comparison.equal(f"{where}: ids", texts[rank, :count], np.array(ids[1:]))
            recording.comparison.close(
                f"{where}: scores", scores[rank, :count], steps[1:], tolerance=SCORE_TOLERANCE
            )
            is_over = (texts[rank, count:] == end_token).all()
            recording.comparison.equal(f"{where}: nothing follows", bool(is_over), True)
        best = text_of_ids(texts[case["best"][sample]], tokenizer, end_token=end_token)
        recording.comparison.equal(
            f"{name}, sample {sample}: text", best, _plain(case["text"][sample])
        )


def _plain(text: str) -> str:
    """A recorded text as we give it: the names of special tokens and double spaces left out."""
    for name in SPECIAL_NAMES:
        text = text.replace(name, "")
    return " ".join(text.split())


def _inputs_of(case: Mapping[str, Any], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that a case was fed with, named as those of other recordings are."""
    kind = case.get("task_type")
    if kind is None:
        return {f"in/{name}": value for name, value in inputs.items()}
    if kind == "normal" and case.get("continuous_position"):
        kind = "continuous"
    prefix = f"{kind}/"
    return {
        f"in/{name.removeprefix(prefix)}": value
        for name, value in inputs.items()
        if name.startswith(prefix)
    }


def _task_of(
    recording: Recording, recorded: Mapping[str, np.ndarray]
) -> Seq2SeqTask | CaptioningTask:
    home = recording.home
    if "in/image_loc" in recorded:
        model = home.model()
        image = ImageConfig(kind="regions", feature_size=model.region_feature_size)
        data = CaptionDataConfig(
            source="original",
            compatibility="original",
            image=image,
            with_tags="in/obj_word" in recorded,
        )
        return CaptioningConfig(data=data).build(model, NO_ASSETS)
    changes = {}
    if "in/role" in recorded:
        tables = ("role_embedding", "turn_embedding")
        rows = [len(home.parameters[name]) for name in tables]
        changes = {"num_roles": rows[0], "num_turns": rows[1]}
    model = home.model(**changes)
    data = SourceDataConfig(max_source_length=model.max_text_length)
    return (DialogueConfig if changes else Seq2SeqConfig)(data=data).build(model, NO_ASSETS)


def _samples(recorded: Mapping[str, np.ndarray]) -> list[Sample]:
    """What each text is written from: the source with the target's [CLS] behind it."""
    samples = []
    for number in range(len(recorded["in/tgt_word"])):
        own = {name: value[number : number + 1] for name, value in recorded.items()}
        is_image = "in/image_loc" in own
        sample = {}
        if is_image:
            sample = region_fields(own) | (tag_fields(own) if "in/obj_word" in own else {})
            sample = {name: value[0] for name, value in sample.items()}
        sample |= _text(own, 0 if is_image else int(own["in/tgt_mask"].sum()))
        samples.append(sample)
    return samples


def _text(own: Mapping[str, np.ndarray], num_source: int) -> Sample:
    """The real tokens of the source, and the first of the target."""
    sample = {}
    for ours, source, target in (
        ("input_ids", "in/word", "in/tgt_word"),
        ("position_ids", "in/pos", "in/tgt_pos"),
        ("role_ids", "in/role", None),
        ("turn_ids", "in/turn", None),
    ):
        if target is None and source not in own:
            continue
        before = own[source][0, :num_source, 0] if num_source else np.zeros(0, np.int64)
        first = own[target].ravel() if target else np.zeros(1, np.int64)
        sample[ours] = np.concatenate([before, first])
    sample["text_mask"] = np.ones(num_source + 1, np.float32)
    sample["text_order"] = np.r_[np.zeros(num_source, np.int64), 1]
    return sample
