"""Settings of pre-training: its data, the shares of its streams, the weights of its objectives."""

from __future__ import annotations

from dataclasses import dataclass, field

from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.masking import RegionMaskingConfig, TextMaskingConfig
from unimo_paddle.data.regions import RegionStores
from unimo_paddle.data.regions.lookup import check_stores
from unimo_paddle.data.rewriting import NEGATIVE_KINDS
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
    rewrites: str | None = None  # rewritten captions of the pairs, by prepare_data.py rewrite
    mined: str | None = None  # images and sentences for the pairs, by prepare_data.py mine
    statements: tuple[str, ...] = ()  # JSON lines of questions or hypotheses about images
    regions: tuple[str, ...] = ()  # stores of regions, by prepare_data.py regions or extract
    images: str | None = None  # images alone: a folder, or a store (regions); none: the pairs'
    splits: dict[str, str] = field(
        default_factory=dict
    )  # name of a split: JSON lines to evaluate on (files)
    allow_leaks: bool = False  # train although what is trained on holds some of the splits
    split_rewrites: dict[str, str] = field(
        default_factory=dict
    )  # name of a split: its rewritten captions, which a model should prefer the captions to
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
        for name in ("pairs", "texts", "images", "splits"):
            if self.source == "scenes" and getattr(self, name):
                raise UserError(
                    f"task.data.{name} has no effect on task.data.source scenes; leave it out, or "
                    "set the source to files"
                )
        known = ("test", "test_novel") if self.source == "scenes" else tuple(self.splits)
        for name in self.split_rewrites:
            if name not in known:
                raise UserError(
                    f"task.data.split_rewrites.{name} is of no split; choose of "
                    f"{', '.join(known) or 'what task.data.splits names, which is nothing yet'}"
                )
        if self.statements and self.image.kind == "regions":
            raise UserError(
                "task.data.statements has no regions of its images, but task.data.image.kind is "
                "regions; leave the statements out, or set the kind to patches or objects"
            )
        check_stores(self.regions, self.source, self.image)
        lows = {"captions_per_image": 1, "max_text_length": 8, "num_visual_words": 2}
        lows |= {"num_region_classes": 2, "num_object_names": 1}
        for name, low in lows.items():
            if getattr(self, name) < low:
                raise UserError(f"task.data.{name} is {getattr(self, name)}; give at least {low}")

    def open_stores(self) -> RegionStores | None:
        """Where regions lie that the records do not hold; None where no store is named."""
        return RegionStores(self.regions, self.image) if self.regions else None


@dataclass(frozen=True)
class ContrastConfig:
    """What a pair is contrasted with beside the other pairs of its batch, drawn for each step."""

    rewrites_per_pair: int = 0  # captions that do not hold of the image: rewritten, or its likes'
    others_per_pair: int = 0  # captions of any other images, beside the rewrites
    paraphrases_per_pair: int = 0  # captions that say the same; they are positives
    images_per_pair: int = 0  # mined images that show alike things; positives of the captions
    texts_per_pair: int = 0  # mined sentences that say alike things; positives of the image
    rewrite_kinds: tuple[str, ...] = ()  # object, attribute, relation, phrase, sentence; none = all
    joint_scores: bool = True  # read rewrites and the caption with the image; false: alone
    joint_every: int = 1  # every n-th pair of a batch is read jointly, which costs most; 1 = all
    temperature_per_kind: bool = True  # one of its own for joint scores and for mined ones
    logarithm: str = "kind"  # one a direction and one of joint scores; direction; pair (equation 1)

    def __post_init__(self) -> None:
        for name in ("rewrites", "others", "paraphrases", "images", "texts"):
            count = getattr(self, f"{name}_per_pair")
            if count < 0:
                raise UserError(f"task.contrast.{name}_per_pair is {count}; give at least 0")
        if self.joint_every < 1:
            raise UserError(f"task.contrast.joint_every is {self.joint_every}; give at least 1")
        if self.joint_every > 1 and not self.uses_joint_scores:
            raise UserError(
                f"task.contrast.joint_every is {self.joint_every}, but nothing is read jointly; "
                "set it to 1, or ask for rewrites, others or paraphrases with joint_scores"
            )
        if self.logarithm not in ("kind", "direction", "pair"):
            raise UserError(
                f"task.contrast.logarithm is {self.logarithm!r}; choose kind, direction or pair"
            )
        for kind in self.rewrite_kinds:
            if kind not in NEGATIVE_KINDS:
                raise UserError(
                    f"task.contrast.rewrite_kinds holds {kind!r}; choose of "
                    f"{', '.join(NEGATIVE_KINDS)}"
                )
        if self.rewrite_kinds and not self.rewrites_per_pair:
            raise UserError(
                f"task.contrast.rewrite_kinds is {list(self.rewrite_kinds)}, but rewrites_per_pair "
                "is 0; give at least 1, or leave the kinds out"
            )

    @property
    def uses_joint_scores(self) -> bool:
        """Whether pairs are read together for the contrastive term."""
        return self.joint_scores and self._num_drawn > 0

    @property
    def _num_drawn(self) -> int:
        return self.paraphrases_per_pair + self.rewrites_per_pair + self.others_per_pair

    @property
    def num_positive_rewrites(self) -> int:
        """Paraphrases, after the caption itself where it is read with the image."""
        return self.paraphrases_per_pair + self.uses_joint_scores

    @property
    def num_rewrites(self) -> int:
        """Texts that are rewrites of a caption, or itself; positives come first."""
        return self.uses_joint_scores + self._num_drawn

    @property
    def has_candidates(self) -> bool:
        """Whether a pair is contrasted with anything beside its batch."""
        return self.num_rewrites + self.num_mined > 0

    @property
    def num_mined(self) -> int:
        """Images and texts that were mined for a pair."""
        return self.images_per_pair + self.texts_per_pair

    @property
    def has_joint_logarithm(self) -> bool:
        """Whether joint scores have a logarithm of their own."""
        return self.uses_joint_scores and self.logarithm == "kind"

    @property
    def has_joint_temperature(self) -> bool:
        """Whether joint scores have a temperature of their own."""
        return self.uses_joint_scores and self.temperature_per_kind

    @property
    def has_mined_temperature(self) -> bool:
        """Whether scores of what was mined have a temperature of their own."""
        return self.num_mined > 0 and self.temperature_per_kind


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
