"""Writing as one graph: what was encoded, then a loop that adds a word to each text.

The encoding is made once for each sample and shared by all its texts. Keys and values of written
words stay where they are: a table says which of them each text goes back to, so a search that
drops one text for another moves a row of numbers and not the caches.
"""

from __future__ import annotations

from collections.abc import Callable

import paddle
from paddle import Tensor

from unimo_paddle.models.beams import OriginalBeams, TwoKBeams
from unimo_paddle.models.heads import LanguageHead
from unimo_paddle.models.sampling import Sampling
from unimo_paddle.models.search import (
    NO_TOKEN,
    GenerationConfig,
    Search,
    Texts,
    Vocabulary,
    append,
    nothing_yet,
)
from unimo_paddle.models.unimo import Encoding, UnifiedTransformer
from unimo_paddle.ops.decode_attention import no_words
from unimo_paddle.ops.pick_rows import pick_rows


def make_search(config: GenerationConfig, vocabulary: Vocabulary) -> Search:
    """The search that a configuration names."""
    if config.search == "sample":
        return Sampling(config, vocabulary)
    return (OriginalBeams if config.rule == "original" else TwoKBeams)(config, vocabulary)


class Writer:
    """Writes texts behind what a Transformer encoded.

    Args:
        transformer, head: of the model, in evaluation.
        config: how to write.
        vocabulary: of the head.
    """

    def __init__(
        self,
        transformer: UnifiedTransformer,
        head: LanguageHead,
        config: GenerationConfig,
        vocabulary: Vocabulary,
    ) -> None:
        assert config.max_length, "the length of a text must be limited"
        self.transformer = transformer
        self.head = head
        self.config = config
        self.search = make_search(config, vocabulary)

    def write(
        self,
        encoding: Encoding,
        input_ids: Tensor,
        position_ids: Tensor,
        text_mask: Tensor,
        text_order: Tensor,
        seeds: Tensor | None = None,
    ) -> Texts:
        """Go on with the text of an encoding until all ends are reached.

        Args:
            encoding: of the segments with this text. Its last real token is the first that is
                continued: the [CLS] of the target, or the last word that is given of it.
            input_ids, position_ids, text_mask, text_order: [B, T], as it was encoded.
            seeds: [B] int64, of sampling.
        """
        num_real = text_mask.sum(axis=1, keepdim=True).astype("int64")
        last = num_real - 1
        hidden = pick_rows(encoding.text, last)[:, 0]
        rows = self.config.num_rows
        logits = self.head(hidden, few_rows=True).unsqueeze(1).tile([1, rows, 1])
        context = self._context(input_ids, num_real, text_order)
        search = self.search.start(context) if seeds is None else self.search.start(context, seeds)
        step = paddle.zeros([1], "int64")
        choice = self.search.choose(logits, step, search)
        position = paddle.take_along_axis(position_ids, last, axis=1) + 1
        ancestors = nothing_yet(paddle.zeros_like(choice.tokens).unsqueeze(-1))
        memories = self.transformer.memories(encoding)
        nothing = no_words(choice.tokens, self.transformer.config.hidden_size)
        caches = [paddle.assign(nothing) for _ in memories]
        state = [step + 1, choice.tokens, position, ancestors, *choice.state, *caches]
        split = 4 + len(choice.state)

        def goes_on(step: Tensor, *state: Tensor) -> Tensor:
            is_done = self.search.is_done(state[3 : split - 1])
            return ((step < self.config.max_length) & ~is_done).reshape([])

        def advance(
            step: Tensor, tokens: Tensor, position: Tensor, ancestors: Tensor, *state: Tensor
        ) -> list[Tensor]:
            search, caches = state[: split - 4], state[split - 4 :]
            own = paddle.cumsum(paddle.ones_like(tokens), axis=1) - 1
            ancestors = append(ancestors, own)
            hidden, extended = self.transformer.decode(
                tokens,
                position.tile([1, rows]),
                memories,
                ancestors,
                caches,
            )
            logits = self.head(hidden.flatten(0, 1), few_rows=True)
            logits = logits.reshape([-1, rows, logits.shape[-1]])
            choice = self.search.choose(logits, step, search)
            ancestors = pick_rows(ancestors, choice.parents)
            return [
                step + 1,
                choice.tokens,
                position + 1,
                ancestors,
                *choice.state,
                *extended,
            ]

        state = _loop(goes_on, advance, state)
        return self._padded(self.search.finish(state[4:split], paddle.shape(context)[1]))

    def _padded(self, texts: Texts) -> Texts:
        """Texts of ``max_length`` tokens: behind the end more ends, and the score as it is."""
        rest = paddle.zeros([1, 1, self.config.max_length], "int64")
        rest = rest[..., paddle.shape(texts.tokens)[2] :]
        ends = rest + self.search.vocabulary.end_token + paddle.zeros_like(texts.tokens[..., :1])
        scores = rest.astype("float32") + texts.scores.unsqueeze(-1)
        return Texts(
            paddle.concat([texts.tokens, ends], axis=-1),
            texts.scores,
            paddle.concat([texts.step_scores, scores], axis=-1),
        )

    def _context(self, input_ids: Tensor, num_real: Tensor, text_order: Tensor) -> Tensor:
        """What counts as said [B, T], its end at the end; NO_TOKEN in all other places."""
        if not self.config.repeats_include_source:
            input_ids = paddle.where(
                text_order > 0, input_ids, paddle.full_like(input_ids, NO_TOKEN)
            )
        places = paddle.cumsum(paddle.ones_like(input_ids), axis=1) - 1
        length = paddle.shape(input_ids)[1].astype("int64")
        sources = places - (length - num_real)
        moved = paddle.take_along_axis(input_ids, sources.clip(min=0), axis=1)
        return paddle.where(sources >= 0, moved, paddle.full_like(moved, NO_TOKEN))


def _loop(
    goes_on: Callable[..., Tensor], advance: Callable[..., list[Tensor]], state: list[Tensor]
) -> list[Tensor]:
    if not paddle.in_dynamic_mode():
        return paddle.static.nn.while_loop(goes_on, advance, state)
    while goes_on(*state):
        state = advance(*state)
    return state
