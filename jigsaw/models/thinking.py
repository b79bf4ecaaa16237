"""Disables the reasoning of reasoning models, by a change of the chat template.

In: a chat template, and how to disable the reasoning. Out: the changed template, which is saved with the trained model,
so that all engines and later evaluations write the same prompt.
"""

from __future__ import annotations

import json

from jigsaw.errors import JigsawError

TEMPLATE = "template"
"""The value of `model.no_think` for templates that have a switch."""

SWITCH = "enable_thinking"
"""The name of that switch in the templates of Qwen3 and its relatives."""

OFF = f"{{%- set {SWITCH} = false -%}}"

APPENDED = (
    "{%- set ns = namespace(turns=[]) -%}{%- for turn in messages -%}"
    "{%- if turn.role == 'user' and turn.content is string -%}"
    "{%- set ns.turns = ns.turns + [{'role': turn.role, 'content': turn.content + WORDS}] -%}"
    "{%- elif turn.role == 'user' -%}"
    "{%- set ns.turns = ns.turns + "
    "[{'role': turn.role, 'content': turn.content + [{'type': 'text', 'text': WORDS}]}] -%}"
    "{%- else -%}{%- set ns.turns = ns.turns + [turn] -%}{%- endif -%}{%- endfor -%}"
    "{%- set messages = ns.turns -%}"
)


def without_thinking(template: str, how: str) -> str:
    """A chat template that asks for no reasoning.

    Args:
        template: the checkpoint's template; a template that was changed before is not changed again.
        how: `template` sets the template's switch `enable_thinking` to false; any other text, such as `/no_think` for
            MiMo-VL, is appended to every turn of the user, after a space.

    Raises:
        JigsawError: the template has no such switch.
    """
    if how == TEMPLATE and SWITCH not in template:
        raise JigsawError(
            f"model.no_think: the chat template of this checkpoint has no switch {SWITCH}; "
            "give the text that its authors document, such as /no_think"
        )
    before = OFF if how == TEMPLATE else APPENDED.replace("WORDS", json.dumps(f" {how}"))
    return template if template.startswith(before) else before + template
