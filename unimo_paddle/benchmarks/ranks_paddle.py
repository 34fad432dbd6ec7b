"""Updates of a real run in a worker: alone, or as a rank where its environment says so."""

from __future__ import annotations

import paddle

from unimo_paddle.benchmarks.ranks import RanksCase
from unimo_paddle.checkpoint import latest_checkpoint
from unimo_paddle.config import build_trainer, parse_training
from unimo_paddle.data.loader import Loader
from unimo_paddle.process import tune_process
from unimo_paddle.trainer import CHECKPOINT_DIR


class Training:
    """The trainer of ``tools/train.py``, fed with batches that were made before."""

    works_with_others = True  # so all repeat equally often, and a round is what the case says

    def __init__(self, case: RanksCase) -> None:
        tune_process()
        config, _ = parse_training(case.command_line())
        self._trainer = build_trainer(config)
        streams = self._trainer.task.training_streams(config.train.batch_size)
        loader = Loader(
            streams, seed=config.seed, num_workers=0, rank=case.rank, num_ranks=case.num_ranks
        )
        self._batches = [loader.batch(index) for index in range(case.num_updates)]
        self._step = 0
        self._first: float | None = None

    @staticmethod
    def versions() -> dict[str, str]:
        """Of what is measured."""
        return {"paddle": paddle.__version__}

    def run(self) -> None:
        """One update a batch."""
        trainer = self._trainer
        for batch in self._batches:
            values = trainer.update.run(trainer.runner, iter([batch]), self._step)
            self._step += 1
            if self._first is None:
                self._first = float(values["contrastive"])

    def results(self) -> float:
        """The contrastive loss of the first update, which sees the pairs of all ranks."""
        assert self._first is not None, "nothing was run yet"
        return self._first


class SavingTraining(Training):
    """The same with a checkpoint written meanwhile."""

    def run(self) -> int:
        """One update a batch, the save, and what is left of it after the last; return its bytes."""
        trainer = self._trainer
        trainer.step = self._step
        trainer.save()
        super().run()
        trainer.writer.wait()
        newest = latest_checkpoint(trainer.output_dir / CHECKPOINT_DIR)
        return sum(path.stat().st_size for path in newest.iterdir())
