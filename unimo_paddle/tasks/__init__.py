"""Tasks: what goes in, what loss comes out, what is measured. Importing them registers them."""

from unimo_paddle.tasks import (
    captioning,
    classification,
    dialogue,
    pretraining,
    regression,
    retrieval,
    seq2seq,
    visual_entailment,
    vqa,
)
from unimo_paddle.tasks.base import Service, Task, TaskConfig

__all__ = [
    "Service",
    "Task",
    "TaskConfig",
    "captioning",
    "classification",
    "dialogue",
    "pretraining",
    "regression",
    "retrieval",
    "seq2seq",
    "visual_entailment",
    "vqa",
]
