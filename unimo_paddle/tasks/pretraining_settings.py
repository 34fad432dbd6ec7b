"""Settings of pre-training: its data, the shares of its streams, the weights of its objectives."""

from __future__ import annotations

from dataclasses import dataclass, field

from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.masking import RegionMaskingConfig, TextMaskingConfig
from unimo_paddle.data.scenes import SceneConfig
from unimo_paddle.data.text import TokenizerConfig
from unimo_paddle.errors import UserError


@dataclass(frozen=True)
class PretrainingDataConfig:
    """Where the three streams come from and how they are encoded."""

    source: str = "scenes"  # the built-in data, or files
    scenes_dir: str = "runs/data/scenes"  # folder of the built-in data, generated on first use
    scenes: SceneConfig = field(default_factory=SceneConfig)  # what the built-in data holds
    pairs: str | None = None  # JSON lines of images with captions to train on (files)
    texts: tuple[str, ...] = ()  # plain text files, a paragraph or sentence a line (files)
    statements: tuple[str, ...] = ()  # JSON lines of questions or hypotheses about images
    images: str | None = None  # folder of images without captions; none uses those of the pairs
    splits: dict[str, str] = field(
        default_factory=dict
    )  # name of a split: JSON lines to evaluate on (files)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    text_masking: TextMaskingConfig = field(default_factory=TextMaskingConfig)
    region_masking: RegionMaskingConfig = field(default_factory=RegionMaskingConfig)
    captions_per_image: int = 1  # captions of an image that a step contrasts with the images
    max_text_length: int = 128  # tokens, [CLS] and [SEP] included; longer captions are cut
    num_visual_words: int = 512  # classes of patches, by k-means
    num_region_classes: int = 1601  # classes of the detector (regions)
    num_object_names: int = 2000  # names of labelled objects that are learnt, the commonest

    def __post_init__(self) -> None:
        if self.source not in ("scenes", "files"):
            raise UserError(f"task.data.source is {self.source!r}; choose scenes or files")
        if self.source == "files" and not self.pairs:
            raise UserError("task.data.source is files but task.data.pairs names no file; give one")
        lows = {"captions_per_image": 1, "max_text_length": 8, "num_visual_words": 2}
        lows |= {"num_region_classes": 2, "num_object_names": 1}
        for name, low in lows.items():
            if getattr(self, name) < low:
                raise UserError(f"task.data.{name} is {getattr(self, name)}; give at least {low}")


@dataclass(frozen=True)
class Mixture:
    """Shares of the three streams in a batch; 0 leaves a stream out."""

    texts: float = 1.0  # sentences without images
    images: float = 1.0  # images without sentences
    pairs: float = 5.0  # images with captions
    statements: float = 0.0  # images with all that is asked and said of them


@dataclass(frozen=True)
class ObjectiveWeights:
    """Weights of the terms of the loss; 0 switches an objective and its cost off."""

    contrastive: float = 1.0  # image-text contrastive learning on pairs
    masked_language: float = 1.0  # words hidden in spans, seen from both sides
    seq2seq_language: float = 1.0  # fragments generated from left to right
    region_regression: float = 1.0  # features of hidden regions or pixels of hidden patches
    region_classification: float = 1.0  # classes or visual words of hidden regions
    object_names: float = 0.0  # names of labelled objects, read from each patch
