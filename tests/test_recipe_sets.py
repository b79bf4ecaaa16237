"""Opening the puzzle sets of a recipe: the code of a plug-in runs only if the recipe names the plug-in."""

from pathlib import Path

import pytest

from jigsaw.config.data import DataEntry
from jigsaw.data import build_puzzles
from jigsaw.errors import JigsawError
from jigsaw.recipe_sets import open_set

ZOOM = f"{Path(__file__).parents[1]}/examples/task_plugin/jigsaw_zoom.py:ZoomTask"


def test_a_set_of_a_plug_in_opens_only_if_the_recipe_names_the_plug_in(photos, tmp_path):
    build_puzzles(ZOOM, photos, tmp_path / "set", config={"side": 28}, workers=1, progress=False)
    built = DataEntry(build={"task": ZOOM, "source": str(photos), "side": 28})
    assert len(open_set(tmp_path / "set", built)[0]["images"]) == 4
    by_path = DataEntry(path="set", task=ZOOM)
    assert len(open_set(tmp_path / "set", by_path)[0]["images"]) == 4
    with pytest.raises(JigsawError, match="name it again to run its code"):
        open_set(tmp_path / "set", DataEntry(path="set"))


def test_a_task_next_to_a_build_is_refused():
    with pytest.raises(ValueError, match="task belongs to path"):
        DataEntry(build={"task": "image", "source": "photos"}, task="image")
