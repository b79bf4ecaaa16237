"""How to install what is optional: the command for this installation, a clone or a package."""

from __future__ import annotations

from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]


def install_command(extra: str) -> str:
    """The command that installs an extra of ours (`gpu`, `cpu`, `samples`, `suite`).

    In a clone, to be run there, it keeps the versions that the tests ran with.
    """
    override = " --override cpu-override.txt" if extra == "cpu" else ""  # vLLM's CPU build, beside the same torch
    if (CLONE / "constraints.txt").is_file():
        return f"uv pip install -c constraints.txt{override} -e '.[{extra}]'"
    return f"pip install 'visual-jigsaw[{extra}]'"
