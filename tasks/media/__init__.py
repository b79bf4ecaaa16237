"""Photos, videos, depth maps and poses: read from files, cut, compared and drawn on. Imports no task."""
