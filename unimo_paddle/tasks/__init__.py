"""Tasks: what goes in, what loss comes out, what is measured. Importing them registers them."""

from unimo_paddle.tasks import (
    classification,
    dialogue,
    pretraining,
    regression,
    seq2seq,
)
from unimo_paddle.tasks.base import Service, Task, TaskConfig

__all__ = [
    "Service",
    "Task",
    "TaskConfig",
    "classification",
    "dialogue",
    "pretraining",
    "regression",
    "seq2seq",
]
