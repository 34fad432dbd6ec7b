"""What a run would do, told before it is begun: its files, its size, its memory and time."""

from unimo_paddle.dry_run.summary import Summary, summarise

__all__ = ["Summary", "summarise"]
