"""A model without weights: its modules and parameter names on torch's meta device, to count and to match patterns.

In: a checkpoint's folder or hub id. Out: the model, or None where its configuration is not at hand. Nothing is
downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def skeleton(path: str) -> Any:
    """The model of a checkpoint on the meta device; None for a hub id that is not in the local cache."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, local_files_only=not Path(path).is_dir(), trust_remote_code=False)
    except (OSError, ValueError):
        return None
    return from_config(config)


def from_config(config: Any) -> Any:
    """A vision-language model of a `transformers` configuration on the meta device: shapes and names, no memory."""
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
