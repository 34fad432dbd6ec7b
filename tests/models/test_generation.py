"""Writing with caches, against the same searches on whole texts encoded anew at every step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.models import LanguageHead, ModelConfig, UnifiedTransformer
from unimo_paddle.models.generation import Writer
from unimo_paddle.models.sampling import uniform
from unimo_paddle.models.search import GenerationConfig, Vocabulary
from unimo_paddle.ops.beam_search import beam_search_step_reference

SIZES = {
    "vocab_size": 23,
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 2,
    "max_positions": 40,
    "region_feature_size": 6,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "initializer_range": 0.5,
}
END = 22
FIRST_POSITION = 2
SOURCES = ([5, 6, 7, 8, 2], [9, 2], [10, 11, 12, 2])  # of different lengths


class Model:
    """A Transformer with its head, and its vocabulary."""

    def __init__(self, **changes) -> None:
        paddle.seed(7)
        with paddle.utils.unique_name.guard():
            config = ModelConfig(**{**SIZES, **changes})
            self.transformer = UnifiedTransformer(config, poolers=())
            self.head = LanguageHead(config, self.transformer.word_embedding)
        self.transformer.eval()
        self.head.eval()
        self.vocabulary = Vocabulary(config.vocab_size, END)

    def raise_end(self, logit: float) -> None:
        """Let texts end sooner or later."""
        bias = self.head.bias.numpy()
        bias[END] = logit
        self.head.bias.set_value(bias)

    def write(self, config: GenerationConfig, feeds: dict, seeds=None):
        tensors = {name: paddle.to_tensor(value) for name, value in feeds.items()}
        writer = Writer(self.transformer, self.head, config, self.vocabulary)
        text = [tensors[n] for n in ("input_ids", "position_ids", "text_mask", "text_order")]
        seeds = None if seeds is None else paddle.to_tensor(seeds)
        return writer.write(self.transformer(**tensors), *text, seeds)

    def logits(self, feeds: dict, sample: int, written: list[int]) -> np.ndarray:
        """The logits [V] of the next word of one text, everything encoded anew."""
        real = int(feeds["text_mask"][sample].sum())
        own = {name: value[sample : sample + 1] for name, value in feeds.items()}
        last = int(own["position_ids"][0, real - 1])
        order = int(own["text_order"][0, real - 1])
        count = len(written)
        behind = {
            "input_ids": np.array(written, np.int64),
            "position_ids": np.arange(last + 1, last + 1 + count),
            "text_mask": np.ones(count, np.float32),
            "text_order": np.arange(order + 1, order + 1 + count),
        }
        for name, values in behind.items():
            own[name] = np.concatenate([own[name][:, :real], values[None]], axis=1)
        encoding = self.transformer(**{n: paddle.to_tensor(x) for n, x in own.items()})
        return self.head(encoding.text[:, -1]).numpy()[0]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def feeds() -> dict[str, np.ndarray]:
    """Three sources, [CLS] of the target behind, and images of different size."""
    rng = np.random.default_rng(0)
    length = max(map(len, SOURCES)) + 2  # with a column of padding for the longest, too
    made = {
        "input_ids": np.ones((3, length), np.int64),
        "position_ids": np.ones((3, length), np.int64),
        "text_mask": np.zeros((3, length), np.float32),
        "text_order": np.zeros((3, length), np.int64),
        "region_features": rng.standard_normal((3, 4, 6), dtype="float32"),
        "region_boxes": rng.random((3, 4, 5), dtype="float32"),
        "region_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], np.float32),
    }
    for row, source in enumerate(SOURCES):
        count = len(source)
        made["input_ids"][row, : count + 1] = [*source, 0]
        made["position_ids"][row, : count + 1] = [*range(2, 2 + count), FIRST_POSITION]
        made["text_mask"][row, : count + 1] = 1
        made["text_order"][row, count] = 1
    return made


def search_slowly(model: Model, feeds: dict, config: GenerationConfig) -> list[list[tuple]]:
    """The texts (ids, score) of each sample by a rule, the reference of its step, and no cache."""
    results = []
    for sample in range(len(SOURCES)):
        beams = config.beam_size
        is_original = config.rule == "original"
        texts: list[list[int]] = [[] for _ in range(beams)]
        scores = np.full((1, beams), -np.inf if is_original else -1e4, np.float32)
        scores[0, 0] = 0.0
        finished, ended = np.zeros((1, beams), bool), []
        for step in range(config.max_length):
            logits = np.stack([model.logits(feeds, sample, text) for text in texts])[None]
            best = beam_search_step_reference(
                logits,
                scores,
                finished,
                step,
                end_token=END,
                rule=config.rule,
                length_penalty=config.length_penalty,
                min_length=config.min_length,
            )
            scores, tokens, parents, finished, ended_scores, ended_parents = best
            for score, parent in zip(ended_scores[0], ended_parents[0], strict=True):
                if parent >= 0:
                    ended.append(([*texts[parent], END], float(score)))
            ended = sorted(ended, key=lambda text: -text[1])[:beams]
            texts = [[*texts[p], int(t)] for p, t in zip(parents[0], tokens[0], strict=True)]
            divisor = ((step + 5) / 6) ** config.length_penalty
            leading = max(scores[0, 0] / divisor, ended_scores[0, 0])
            is_full = len(ended) == beams
            if is_original and finished.all():
                break
            if not is_original and is_full and (config.early_stopping or ended[-1][1] >= leading):
                break
        else:
            divisor = ((config.max_length + 5) / 6) ** config.length_penalty
            if not is_original:
                ended += [(t, s / divisor) for t, s in zip(texts, scores[0], strict=True)]
        if is_original:
            ended = list(zip(texts, scores[0], strict=True))
        results.append(sorted(ended, key=lambda text: -text[1])[:beams])
    return results


RULES = {
    "greedy": {"beam_size": 1, "length_penalty": 0.0},
    "original": {"beam_size": 3, "length_penalty": 0.6},
    "original, long": {"beam_size": 4, "length_penalty": 1.2, "min_length": 4},
    "2k": {"beam_size": 3, "rule": "2k", "length_penalty": 1.0},
    "2k, early": {"beam_size": 2, "rule": "2k", "early_stopping": True, "min_length": 2},
}


@pytest.mark.parametrize("end_logit", [0.0, 2.5, 6.0])
@pytest.mark.parametrize("name", RULES)
def test_texts_are_those_of_a_search_without_caches(
    model: Model, feeds: dict, name: str, end_logit: float
) -> None:
    model.raise_end(end_logit)
    config = GenerationConfig(max_length=9, **RULES[name])
    config = replace(config, num_texts=config.beam_size)
    found = model.write(config, feeds)
    for sample, expected in enumerate(search_slowly(model, feeds, config)):
        for rank, (ids, score) in enumerate(expected):
            tokens = found.tokens.numpy()[sample, rank]
            written = ids[: ids.index(END) + 1] if END in ids else ids
            assert tokens[: len(written)].tolist() == written
            assert set(tokens[len(written) :]) <= {END}
            assert found.scores.numpy()[sample, rank] == pytest.approx(score, abs=1e-4)


def test_a_batch_writes_what_each_sample_writes_alone(model: Model, feeds: dict) -> None:
    config = GenerationConfig(beam_size=3, max_length=8)
    together = model.write(config, feeds)
    for sample, source in enumerate(SOURCES):
        alone = {name: value[sample : sample + 1] for name, value in feeds.items()}
        for name in ("input_ids", "position_ids", "text_mask", "text_order"):
            alone[name] = alone[name][:, : len(source) + 1]
        texts = model.write(config, alone)
        assert texts.tokens.numpy()[0].tolist() == together.tokens.numpy()[sample].tolist()
        np.testing.assert_allclose(texts.scores[0], together.scores[sample], atol=1e-5)


def test_a_beginning_that_is_given_is_gone_on_with(model: Model, feeds: dict) -> None:
    model.raise_end(-20.0)
    config = GenerationConfig(beam_size=1, max_length=7, length_penalty=0.0)
    whole = model.write(config, feeds).tokens.numpy()[:, 0]
    given = {name: value.copy() for name, value in feeds.items()}
    for name in ("input_ids", "position_ids", "text_mask", "text_order"):
        given[name] = np.pad(given[name], [(0, 0), (0, 1)])
    for row, source in enumerate(SOURCES):
        for offset in (1, 2):
            place = len(source) + offset
            given["input_ids"][row, place] = whole[row, offset - 1]
            given["position_ids"][row, place] = FIRST_POSITION + offset
            given["text_mask"][row, place] = 1
            given["text_order"][row, place] = 1 + offset
    config = replace(config, max_length=5)
    assert model.write(config, given).tokens.numpy()[:, 0].tolist() == whole[:, 2:].tolist()


def test_roles_turns_and_types_are_those_of_a_target(feeds: dict) -> None:
    model = Model(num_roles=3, num_turns=4, type_vocab_size=2)
    feeds |= {name: np.zeros_like(feeds["input_ids"]) for name in ("role_ids", "turn_ids")}
    config = GenerationConfig(beam_size=1, max_length=5, length_penalty=0.0)
    found = model.write(config, feeds).tokens.numpy()[:, 0]
    original = model.logits

    def logits(feeds: dict, sample: int, written: list[int]) -> np.ndarray:
        own = dict(feeds)
        real = int(feeds["text_mask"][sample].sum())
        for name in ("role_ids", "turn_ids"):
            own[name] = np.zeros((3, real + len(written)), np.int64)
        return original(own, sample, written)

    model.logits = logits  # type: ignore[method-assign]
    for sample, ((ids, _),) in enumerate(search_slowly(model, feeds, config)):
        assert found[sample, : len(ids)].tolist() == ids


# ---- repetition


@pytest.mark.parametrize("rule", ["original", "2k"])
def test_no_sequence_of_tokens_comes_twice(model: Model, feeds: dict, rule: str) -> None:
    model.raise_end(-20.0)  # on and on
    config = GenerationConfig(beam_size=3, max_length=30, rule=rule, num_texts=3)

    def repeats(texts: np.ndarray) -> int:
        pairs = [[tuple(t[i : i + 2]) for i in range(29)] for row in texts for t in row.tolist()]
        return sum(len(pair) - len(set(pair)) for pair in pairs)

    assert repeats(model.write(config, feeds).tokens.numpy()) > 0
    blocked = replace(config, no_repeat_ngram_size=2)
    assert repeats(model.write(blocked, feeds).tokens.numpy()) == 0


@pytest.mark.parametrize("rule", ["original", "2k"])
def test_a_penalty_lowers_used_tokens_and_nothing_else(
    model: Model, feeds: dict, rule: str
) -> None:
    config = GenerationConfig(
        beam_size=1, max_length=6, rule=rule, length_penalty=0.0, repetition_penalty=1.7
    )
    model.raise_end(-20.0)
    texts = model.write(config, feeds)
    for sample in range(3):
        written, total = [], 0.0
        for token, score in zip(
            texts.tokens.numpy()[sample, 0], texts.step_scores.numpy()[sample, 0], strict=True
        ):
            logits = model.logits(feeds, sample, written).astype(np.float64)
            normal = logits - np.log(np.exp(logits).sum())
            used = list({0, *written})  # the [CLS] of the target is said, too
            normal[used] *= 1.7
            assert token == normal.argmax()
            total += normal[token]
            assert score == pytest.approx(total, abs=1e-4)
            written.append(int(token))


# ---- sampling


def test_draws_follow_the_probabilities(model: Model, feeds: dict) -> None:
    count = 4000
    config = GenerationConfig(search="sample", num_texts=count, max_length=1, temperature=1.5)
    tokens = model.write(config, feeds).tokens.numpy()[:, :, 0]
    for sample in range(3):
        logits = model.logits(feeds, sample, []).astype(np.float64) / 1.5
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        found = np.bincount(tokens[sample], minlength=23) / count
        deviation = np.sqrt(shares * (1 - shares) / count)
        assert (np.abs(found - shares) < 4.5 * deviation + 1e-9).all()


def test_seeds_decide_what_is_drawn(model: Model, feeds: dict) -> None:
    config = GenerationConfig(search="sample", num_texts=5, max_length=8)
    first, again, other = (
        model.write(config, feeds, np.full(3, seed)).tokens.numpy() for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any(axis=(1, 2)).all()
    assert len({tuple(text) for text in first[0]}) > 1


@pytest.mark.parametrize("includes_source", [False, True])
def test_draws_do_not_depend_on_the_rest_of_a_batch(
    model: Model, feeds: dict, includes_source: bool
) -> None:
    """A batch pads its contexts to the longest."""
    config = GenerationConfig(
        search="sample", num_texts=4, max_length=6, repeats_include_source=includes_source
    )
    seeds = np.arange(3)
    together = model.write(config, feeds, seeds).tokens.numpy()
    for sample, source in enumerate(SOURCES):
        alone = {name: value[sample : sample + 1] for name, value in feeds.items()}
        for name in ("input_ids", "position_ids", "text_mask", "text_order"):
            alone[name] = alone[name][:, : len(source) + 1]
        texts = model.write(config, alone, seeds[sample : sample + 1])
        assert texts.tokens.numpy()[0].tolist() == together[sample].tolist()


def test_drawing_among_the_single_likeliest_is_greedy(model: Model, feeds: dict) -> None:
    greedy = GenerationConfig(beam_size=1, max_length=8, length_penalty=0.0)
    expected = model.write(greedy, feeds)
    for settings in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        config = GenerationConfig(search="sample", max_length=8, **settings)
        texts = model.write(config, feeds)
        assert texts.tokens.numpy().tolist() == expected.tokens.numpy().tolist()
        np.testing.assert_allclose(texts.scores, expected.scores, atol=1e-4)


def test_only_likely_tokens_are_drawn(model: Model, feeds: dict) -> None:
    config = GenerationConfig(search="sample", num_texts=500, max_length=1, top_p=0.6, top_k=4)
    tokens = model.write(config, feeds).tokens.numpy()[:, :, 0]
    for sample in range(3):
        logits = model.logits(feeds, sample, []).astype(np.float64)
        order = np.argsort(-logits)[:4]
        shares = np.exp(logits[order]) / np.exp(logits[order]).sum()
        allowed = order[np.cumsum(shares) - shares < 0.6]
        assert set(tokens[sample]) <= set(allowed.tolist())


def test_drawn_texts_respect_length_and_repetition(model: Model, feeds: dict) -> None:
    model.raise_end(4.0)
    config = GenerationConfig(
        search="sample", num_texts=20, max_length=12, min_length=5, no_repeat_ngram_size=1
    )
    for row in model.write(config, feeds).tokens.numpy().reshape(-1, 12).tolist():
        assert END not in row[:5]
        text = row[: row.index(END)] if END in row else row
        assert len(set(text)) == len(text)


def test_numbers_from_seeds_look_random() -> None:
    seeds = paddle.arange(20000, dtype="int64")
    values = uniform(seeds).numpy()
    assert values.min() >= 0.0 and values.max() < 1.0
    counts = np.histogram(values, 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 45  # chi-squared, 19 degrees of freedom
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


# ---- edges


def test_a_text_of_one_token(model: Model, feeds: dict) -> None:
    texts = model.write(GenerationConfig(beam_size=2, max_length=1, num_texts=2), feeds)
    assert texts.tokens.shape == [3, 2, 1]
    for sample in range(3):
        best = np.argsort(-model.logits(feeds, sample, []))[:2]
        assert texts.tokens.numpy()[sample, :, 0].tolist() == best.tolist()


@pytest.mark.parametrize("rule", ["original", "2k"])
def test_an_end_that_comes_first_leaves_an_empty_text(model: Model, feeds: dict, rule: str) -> None:
    model.raise_end(60.0)
    texts = model.write(GenerationConfig(beam_size=1, max_length=6, rule=rule), feeds)
    assert (texts.tokens.numpy() == END).all()


@pytest.mark.parametrize("rule", ["original", "2k"])
def test_more_beams_than_tokens(feeds: dict, rule: str) -> None:
    model = Model()
    beams = 30
    config = GenerationConfig(beam_size=beams, max_length=3, rule=rule, num_texts=1)
    texts = model.write(config, feeds)
    narrow = model.write(replace(config, beam_size=22), feeds)
    assert np.isfinite(texts.scores.numpy()).all()
    assert (texts.scores.numpy() >= narrow.scores.numpy() - 1e-4).all()


def test_a_text_of_which_everything_is_blocked_still_ends(model: Model, feeds: dict) -> None:
    model.raise_end(-20.0)
    config = GenerationConfig(beam_size=2, max_length=30, no_repeat_ngram_size=1, rule="2k")
    texts = model.write(config, feeds).tokens.numpy()
    for row in texts.reshape(-1, 30).tolist():
        assert len(set(row[:22])) == 22  # all tokens there are; what follows has to repeat


def test_a_broken_model_shows(model: Model, feeds: dict) -> None:
    model.raise_end(float("nan"))
    for settings in ({"beam_size": 2}, {"beam_size": 2, "rule": "2k"}, {"search": "sample"}):
        texts = model.write(GenerationConfig(max_length=4, **settings), feeds)
        assert np.isnan(texts.scores.numpy()).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search": "best"}, "generation.search is 'best'; choose one of beam, sample"),
        ({"rule": "3k"}, "generation.rule is '3k'"),
        ({"beam_size": 0}, "generation.beam_size is 0; give at least 1"),
        ({"temperature": 0.0}, "generation.temperature is 0.0; give a number above 0"),
        ({"top_p": 1.5}, "generation.top_p is 1.5"),
        ({"min_length": 9, "max_length": 9}, "leaves no room for an end"),
        ({"num_texts": 5, "beam_size": 4}, "raise beam_size"),
        ({"early_stopping": True}, "early_stopping is of rule 2k"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty is nan"),
        ({"temperature": 0.7}, "generation.temperature is 0.7, but search beam draws nothing"),
        ({"top_k": 5}, "generation.top_k is 5, but search beam draws nothing"),
        ({"top_p": 0.9}, "generation.top_p is 0.9, but search beam draws nothing"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        GenerationConfig(**settings)
    assert message in str(error.value)
