"""The vocabularies of what is predicted of regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unimo_paddle.data.objects import ObjectNames
from unimo_paddle.data.visual_words import VisualWords
from unimo_paddle.tasks.pretraining_regions import RegionTargets
from unimo_paddle.tasks.pretraining_settings import ObjectiveWeights, PretrainingDataConfig


def test_of_several_processes_the_first_to_write_its_vocabularies_counts(tmp_path: Path) -> None:
    made = [
        RegionTargets(
            PretrainingDataConfig(), tmp_path, weights=ObjectiveWeights(), uses_regions=True
        )
        for _ in range(2)
    ]
    patches = np.random.default_rng(0).normal(size=(40, 12))
    for number, targets in enumerate(made):
        targets.visual_words = VisualWords.fit(patches, 4, seed=number)
        targets.object_names = ObjectNames((f"name {number}",))
    first, second = made
    expected = first.visual_words.assign(patches)
    assert (second.visual_words.assign(patches) != expected).any()
    for targets in made:
        targets.save(tmp_path)
        np.testing.assert_array_equal(targets.visual_words.assign(patches), expected)
        assert targets.object_names.names == ("name 0",)
