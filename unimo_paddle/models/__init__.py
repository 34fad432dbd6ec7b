"""The unified Transformer and its heads: layers and shapes, never labels."""

from unimo_paddle.models.config import ModelConfig
from unimo_paddle.models.heads import (
    ClassificationHead,
    EntailmentHead,
    LanguageHead,
    MatchHead,
    ObjectNamesHead,
    ProjectionHead,
    RegionClassificationHead,
    RegionRegressionHead,
    Temperature,
)
from unimo_paddle.models.unimo import Encoding, UnifiedTransformer

__all__ = [
    "ClassificationHead",
    "Encoding",
    "EntailmentHead",
    "LanguageHead",
    "MatchHead",
    "ModelConfig",
    "ObjectNamesHead",
    "ProjectionHead",
    "RegionClassificationHead",
    "RegionRegressionHead",
    "Temperature",
    "UnifiedTransformer",
]
