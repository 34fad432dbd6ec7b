"""Regions of a detector for many images in one store that is read in place.

Whatever a detector wrote becomes such a store once (``import_regions``); tasks look images up in it
by their names (``RegionStores``).
"""

from unimo_paddle.data.regions.lookup import RegionStores
from unimo_paddle.data.regions.store import RegionEntry, RegionStore

__all__ = ["RegionEntry", "RegionStore", "RegionStores"]
