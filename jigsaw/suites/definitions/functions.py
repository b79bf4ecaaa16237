"""What the YAML files of this folder refer to. A run copies both; the work is done in the package."""

from jigsaw.suites.hooks import (
    careful,
    doc_to_messages,
    doc_to_target,
    doc_to_text,
    doc_to_visual,
    process_results,
    right,
)

__all__ = ["careful", "doc_to_messages", "doc_to_target", "doc_to_text", "doc_to_visual", "process_results", "right"]
