"""Environment variables of the libraries below: no telemetry, no look-ups, caches in a folder that can be written.

In: the environment of the command. Out: the same environment, with defaults where the user has set nothing; processes
that a run starts inherit it. Called before any of these libraries is imported, because most read their variables once.
"""

from __future__ import annotations

import codecs
import os
import sys
import tempfile
from pathlib import Path

from jigsaw.errors import JigsawError

_OFFLINE = "JIGSAW_OFFLINE"
"""Set where the hub is switched off by us, so that a hub id may switch it on again; never over the user's own word."""

_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",  # read when vLLM is imported, which TRL does long before an engine is made
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
"""Variables that name a library's cache, and its folder below ours."""


def start_in_utf8() -> None:
    """Start the command again in Python's UTF-8 mode where the locale has another encoding; returns where it is UTF-8.

    Names of files are bytes, UTF-8 on nearly every disk. Read as Latin-1 they would be stored as other letters, and a
    puzzle set would open nowhere else. From version 3.15 on Python does this by itself (PEP 686).
    """
    encoding = codecs.lookup(sys.getfilesystemencoding()).name
    if encoding == "utf-8" or sys.flags.utf8_mode or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes that are started later
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def require_working_directory() -> None:
    """Refuse to work in a directory that is gone: every relative path would be none, for a reason that nobody sees.

    Raises:
        JigsawError: the working directory has been deleted, or may not be read.
    """
    try:
        Path.cwd()
    except OSError as error:
        why = "has been deleted" if isinstance(error, FileNotFoundError) else f"cannot be used ({error.strerror})"
        raise JigsawError(f"the working directory {why}; change to a folder that exists: cd FOLDER") from error


def prepare() -> None:
    """Switch telemetry and look-ups off, and move caches that cannot be written; what the user has set stays."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if not os.environ.keys() & {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}:
        os.environ["HF_HUB_OFFLINE"] = os.environ[_OFFLINE] = "1"
    _move_caches()


def allow_hub() -> None:
    """Let Hugging Face's hub be asked from now on, because a hub id was named; the user's own HF_HUB_OFFLINE stays."""
    if os.environ.pop(_OFFLINE, None) is None:
        return
    os.environ.pop("HF_HUB_OFFLINE", None)
    if (constants := sys.modules.get("huggingface_hub.constants")) is not None:  # it has read the variable already
        constants.HF_HUB_OFFLINE = False  # type: ignore[attr-defined]


def user_is_offline() -> bool:
    """Whether the user forbids that the hub is asked, by `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`."""
    told = {os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    return _OFFLINE not in os.environ and bool(told & {"1", "ON", "YES", "TRUE"})


def cache_remedy(path: str) -> str:
    """What to do about a cache that cannot be written: the end of a message about `path`, empty for other paths."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", *_CACHES):
        if not (given := os.environ.get(name)):
            continue
        folder = Path(given)
        if Path(path).is_relative_to(folder) or (folder.is_relative_to(path) and not _writable(folder)):
            return f"; it is the cache of a library: set {name} to a folder that can be written"
    home = os.environ.get("HOME")
    if home and Path(path).is_relative_to(home) and not _writable(Path(home)):
        return "; HOME cannot be written: set HOME, or HF_HOME and XDG_CACHE_HOME, to folders that can"
    return ""


def _move_caches() -> None:
    """Where `~/.cache` cannot be written, a folder of this user's below the temporary one takes its place."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111  # may have no home
    if _writable(usual):
        return
    moved = Path(tempfile.gettempdir()) / f"jigsaw-cache-{os.getuid()}"
    # A name that anyone can guess: a link, or another user's folder, is not ours to write to.
    if not _writable(moved, mode=0o700) or moved.is_symlink() or moved.stat().st_uid != os.getuid():
        return  # whatever needs a cache says so
    huggingface = Path(os.environ.get("HF_HOME") or usual / "huggingface")
    for name, below in (("HF_HUB_CACHE", "hub"), ("HF_TOKEN_PATH", "token")):
        if os.access(huggingface / below, os.R_OK):  # models that are there can be read where they are
            os.environ.setdefault(name, str(huggingface / below))
    os.environ.pop("XDG_CACHE_HOME", None)
    for name, below in _CACHES.items():
        os.environ.setdefault(name, str(moved / below))


def _writable(folder: Path, mode: int = 0o777) -> bool:
    """Whether files can be made in a folder, which is made if it is not there."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
