"""The puzzles: one file per task, found by name. Imports nothing of jigsaw/ or rewards/.

The public door::

    from jigsaw.tasks import get_task
    task = get_task("image", grid="2x2")
    puzzle = task.plan(source, rng)          # a small record: geometry, shown order, answer
    media = task.render(puzzle, source)      # what the model sees
    messages = task.prompt(puzzle)           # what the model is told

A new task is a subclass of `Task` (see `jigsaw.tasks.contract`) in any file: `get_task("my_tasks.py:Mine")`.
"""

from jigsaw.tasks.adopt import adopt_points, adopt_tiles
from jigsaw.tasks.caching import BoundedCache
from jigsaw.tasks.contract import (
    ANSWER_STYLES,
    AnswerStyle,
    Clip,
    Media,
    Message,
    Puzzle,
    Reject,
    Source,
    SourceKind,
    Task,
    TaskError,
)
from jigsaw.tasks.permutations import answer_of, draw_shown, shown_of
from jigsaw.tasks.photos import REASONS as PHOTO_REASONS
from jigsaw.tasks.photos import PhotoError, read_photo
from jigsaw.tasks.prompts import answer_instruction, user_message
from jigsaw.tasks.registry import (
    absolute_spec,
    canonical_config,
    config_values,
    describe_task,
    find_task,
    get_task,
    task_names,
)

__all__ = [
    "ANSWER_STYLES",
    "PHOTO_REASONS",
    "AnswerStyle",
    "BoundedCache",
    "Clip",
    "Media",
    "Message",
    "PhotoError",
    "Puzzle",
    "Reject",
    "Source",
    "SourceKind",
    "Task",
    "TaskError",
    "absolute_spec",
    "adopt_points",
    "adopt_tiles",
    "answer_instruction",
    "answer_of",
    "canonical_config",
    "config_values",
    "describe_task",
    "draw_shown",
    "find_task",
    "get_task",
    "read_photo",
    "shown_of",
    "task_names",
    "user_message",
]
