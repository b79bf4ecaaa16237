"""Public API of the tasks. The task `NAME` is in `tasks/NAME.py`; readers of photos and videos are in `tasks/media`.

Example::

    from jigsaw.tasks import get_task
    task = get_task("image", grid="2x2")
    puzzle = task.plan(source, rng)          # a small record: geometry, shown order, answer
    media = task.render(puzzle, source)      # the images or clips for the model
    messages = task.prompt(puzzle)           # the chat messages for the model

A new task is a subclass of `Task` (see `jigsaw.tasks.contract`) in any file: `get_task("my_tasks.py:Mine")`. The
package imports nothing of rewards/.
"""

from jigsaw.tasks.contract import (
    ANSWER_STYLES,
    CHOICE,
    LEAKS,
    ORDER,
    AnswerStyle,
    Clip,
    Extent,
    Leak,
    Media,
    Message,
    Pieces,
    PromptVariant,
    Puzzle,
    Question,
    Reject,
    Source,
    SourceKind,
    Task,
    TaskError,
)
from jigsaw.tasks.foreign import ForeignRows
from jigsaw.tasks.media.caching import BoundedCache
from jigsaw.tasks.media.photos import PHOTO_REASONS, PhotoError, read_photo
from jigsaw.tasks.permutations import answer_of, draw_shown, shown_of
from jigsaw.tasks.prompts import (
    answer_instruction,
    choice_instruction,
    instruction_of,
    lettered,
    numbered,
    user_message,
    value_instruction,
    varied,
)
from jigsaw.tasks.registry import (
    absolute_spec,
    canonical_config,
    config_values,
    describe_task,
    find_task,
    get_task,
    task_named,
    task_names,
)

__all__ = [
    "ANSWER_STYLES",
    "CHOICE",
    "LEAKS",
    "ORDER",
    "PHOTO_REASONS",
    "AnswerStyle",
    "BoundedCache",
    "Clip",
    "Extent",
    "ForeignRows",
    "Leak",
    "Media",
    "Message",
    "PhotoError",
    "Pieces",
    "PromptVariant",
    "Puzzle",
    "Question",
    "Reject",
    "Source",
    "SourceKind",
    "Task",
    "TaskError",
    "absolute_spec",
    "answer_instruction",
    "answer_of",
    "canonical_config",
    "choice_instruction",
    "config_values",
    "describe_task",
    "draw_shown",
    "find_task",
    "get_task",
    "instruction_of",
    "lettered",
    "numbered",
    "read_photo",
    "shown_of",
    "task_named",
    "task_names",
    "user_message",
    "value_instruction",
    "varied",
]
