"""The command that installs optional dependencies, for a clone or for an installed package."""

from __future__ import annotations

from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]


def install_command(extra: str) -> str:
    """The command that installs an extra of this package (`gpu`, `cpu`, `samples`, `suite`).

    The command for a clone, to be run in it, keeps the tested versions.
    """
    override = " --override cpu-override.txt" if extra == "cpu" else ""  # vLLM's CPU build with the same torch
    if (CLONE / "constraints.txt").is_file():
        return f"uv pip install -c constraints.txt{override} -e '.[{extra}]'"
    return f"pip install 'visual-jigsaw[{extra}]'"
