"""The functions of the YAML files in this folder. A run copies this file too, so it only imports them."""

from jigsaw.suites.hooks import (
    doc_to_messages,
    doc_to_target,
    doc_to_text,
    doc_to_visual,
    flexible,
    process_results,
    right,
)

__all__ = ["doc_to_messages", "doc_to_target", "doc_to_text", "doc_to_visual", "flexible", "process_results", "right"]
