"""Environment variables of libraries: no telemetry, no network access, caches in a writable folder.

In: the environment of the command. Out: the same environment, with defaults for variables that the user has not set;
the processes of a run inherit it. It is prepared before these libraries are imported, since most read their variables
once.
"""

from __future__ import annotations

import codecs
import os
import sys
import tempfile
from pathlib import Path

from jigsaw.errors import JigsawError

_OFFLINE = "JIGSAW_OFFLINE"
"""Set if this module has disabled the hub, so that a hub id may enable it again; never set if the user disabled it."""

_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",  # read when vLLM is imported, which TRL does long before an engine is created
}
_CACHES = {
    "XDG_CACHE_HOME": "",
    "XDG_CONFIG_HOME": "config",
    "HF_HOME": "huggingface",
    "MPLCONFIGDIR": "matplotlib",
    "NUMBA_CACHE_DIR": "numba",
    "TORCH_HOME": "torch",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_HOME": "triton",
    "VLLM_CACHE_ROOT": "vllm",
    "LMMS_EVAL_HOME": "lmms-eval",
}
"""Variables that name a library's cache, and its subfolder in the replacement cache."""


def start_in_utf8() -> None:
    """Restart the command in Python's UTF-8 mode if the locale has another encoding; otherwise do nothing.

    File names are bytes, and UTF-8 on nearly every disk. Read as Latin-1 they would be stored with wrong letters, and a
    puzzle set could not be opened on other machines. Python 3.15 always uses UTF-8 (PEP 686).
    """
    encoding = codecs.lookup(sys.getfilesystemencoding()).name
    if encoding == "utf-8" or sys.flags.utf8_mode or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes that are started later
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def require_working_directory() -> None:
    """Check that the working directory exists, since otherwise every relative path fails with a misleading error.

    Raises:
        JigsawError: the working directory has been deleted, or cannot be read.
    """
    try:
        Path.cwd()
    except OSError as error:
        why = "has been deleted" if isinstance(error, FileNotFoundError) else f"cannot be used ({error.strerror})"
        raise JigsawError(f"the working directory {why}; change to a folder that exists: cd FOLDER") from error


def prepare() -> None:
    """Disable telemetry and network access, and move caches that cannot be written; the user's settings are kept."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if not os.environ.keys() & {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}:
        os.environ["HF_HUB_OFFLINE"] = os.environ[_OFFLINE] = "1"
    _move_caches()


def allow_hub() -> None:
    """Allow access to the Hugging Face hub, because a hub id was named; the user's HF_HUB_OFFLINE is respected."""
    if os.environ.pop(_OFFLINE, None) is None:
        return
    os.environ.pop("HF_HUB_OFFLINE", None)
    if (constants := sys.modules.get("huggingface_hub.constants")) is not None:  # it has read the variable already
        constants.HF_HUB_OFFLINE = False  # type: ignore[attr-defined]


def user_is_offline() -> bool:
    """Whether the user has disabled access to the hub, by `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`."""
    values = {os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    return _OFFLINE not in os.environ and bool(values & {"1", "ON", "YES", "TRUE"})


def cache_remedy(path: str) -> str:
    """The end of a message about `path`: what to do if it is a cache that cannot be written, otherwise empty."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", *_CACHES):
        if not (value := os.environ.get(name)):
            continue
        folder = Path(value)
        if Path(path).is_relative_to(folder) or (folder.is_relative_to(path) and not _writable(folder)):
            return f"; it is the cache of a library: set {name} to a folder that is writable"
    home = os.environ.get("HOME")
    if home and Path(path).is_relative_to(home) and not _writable(Path(home)):
        return "; HOME is not writable: set HOME, or HF_HOME and XDG_CACHE_HOME, to writable folders"
    return ""


def _move_caches() -> None:
    """Replace `~/.cache` with a folder of this user in the temporary folder, if it is not writable."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111  # may have no home
    if _writable(usual):
        return
    moved = Path(tempfile.gettempdir()) / f"jigsaw-cache-{os.getuid()}"
    # Anyone can guess the name, so a link or another user's folder is not used.
    if not _writable(moved, mode=0o700) or moved.is_symlink() or moved.stat().st_uid != os.getuid():
        return  # the library that needs a cache will report it
    huggingface = Path(os.environ.get("HF_HOME") or usual / "huggingface")
    for name, below in (("HF_HUB_CACHE", "hub"), ("HF_TOKEN_PATH", "token")):
        if os.access(huggingface / below, os.R_OK):  # existing models are read from the usual cache
            os.environ.setdefault(name, str(huggingface / below))
    os.environ.pop("XDG_CACHE_HOME", None)
    for name, below in _CACHES.items():
        os.environ.setdefault(name, str(moved / below))


def _writable(folder: Path, mode: int = 0o777) -> bool:
    """Whether files can be created in a folder, which is created if it does not exist."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
