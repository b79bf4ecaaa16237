"""Sources: lists the photos, videos, RGB-D pairs and scenes of a folder, list, tar or table, and opens one of them."""

from jigsaw.data.sources.opening import below, missing_file, open_source
from jigsaw.data.sources.scanning import scan, source_root

__all__ = ["below", "missing_file", "open_source", "scan", "source_root"]
