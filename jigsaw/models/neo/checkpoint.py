"""Checks the keys of a checkpoint, before its weights are read, to distinguish NEO from NEO-unify.

Two architectures share the name. The one here has `q_proj_hw` in addition to `q_proj`; the newer one ("NEO-unify",
SenseNova-U1) has `q_norm_hw` and no such projection, which would get random weights here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NEWER = "q_norm_hw"
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def checkpoint_keys(path: Any, options: Mapping[str, Any]) -> Iterable[str]:
    """Keys of a safetensors checkpoint, local or on the hub; empty if there is none.

    Args:
        path: folder or hub id.
        options: options of `from_pretrained`.
    """
    from safetensors import safe_open
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

    hub = {key: options[key] for key in HUB_OPTIONS if key in options}
    hub |= {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_gated_repo": False}
    if index := cached_file(path, SAFE_WEIGHTS_INDEX_NAME, **hub):
        return list(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"])
    if weights := cached_file(path, SAFE_WEIGHTS_NAME, **hub):
        with safe_open(weights, "pt") as opened:
            return list(opened.keys())
    return ()


def refuse_other_primitives(path: Any, options: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of the newer architecture.

    Raises:
        ValueError: the checkpoint is a NEO-unify.
    """
    keys = options.get("state_dict") or (() if path is None else checkpoint_keys(path, options))
    for key in keys:
        if NEWER in key:
            raise ValueError(
                f"{path}: a NEO-unify checkpoint ({key}); NEO 1.0, whose layers have q_proj_hw, is needed here. "
                "Open the checkpoint with its own library"
            )
