"""The built-in data set `scenes`: drawn images with captions, boxes, graphs, questions, triples.

`ensure_scenes` writes a folder once and finds it again:

    images/NNNNN.png            one for each scene
    train.jsonl                 pairs: image, captions, graph (objects with boxes in pixels,
                                relations, ground, and the meaning of each caption)
    test.jsonl                  unseen scenes of seen combinations of colour and shape
    test_novel.jsonl            each with an object whose colour and shape never meet elsewhere
    texts.txt                   paragraphs about scenes that are not drawn
    images_only/NNNNN.png       scenes that are not described
    images_only/objects.jsonl   their objects, written when they are first asked for
    questions_{train,test}.jsonl    image, objects, question, answer, kind
    entailment_{train,test}.jsonl   image, objects, hypothesis, label
    scenes.json                 the manifest: version, config, counts, ceilings
"""

from unimo_paddle.data.scenes.baseline import histogram_recall
from unimo_paddle.data.scenes.dataset import SceneConfig, ensure_scenes, read_manifest
from unimo_paddle.data.scenes.drawing import render
from unimo_paddle.data.scenes.gallery import contact_sheet
from unimo_paddle.data.scenes.grammar import Scene, sample_scene
from unimo_paddle.data.scenes.labels import IMAGES_ONLY, ensure_image_objects, holds_scenes
from unimo_paddle.data.scenes.language import write_captions
from unimo_paddle.data.scenes.likelihood import (
    are_sayable,
    caption_log_probability,
    first_caption_entropy,
)
from unimo_paddle.data.scenes.meaning import Meaning, Mention, identifying_share

__all__ = [
    "IMAGES_ONLY",
    "Meaning",
    "Mention",
    "Scene",
    "SceneConfig",
    "are_sayable",
    "caption_log_probability",
    "contact_sheet",
    "ensure_image_objects",
    "ensure_scenes",
    "first_caption_entropy",
    "histogram_recall",
    "holds_scenes",
    "identifying_share",
    "read_manifest",
    "render",
    "sample_scene",
    "write_captions",
]
