"""What detectors of other projects wrote, each read as records of regions."""

from unimo_paddle.data.regions.formats.registry import FORMATS, SourceOptions, open_source

__all__ = ["FORMATS", "SourceOptions", "open_source"]
