"""Starts the vLLM server of a run in server mode, on the first node and on GPUs that training does not use.

In: a recipe and the first node's name. Out: a server that runs during the GRPO stage and serves the start checkpoint of
the stage with the trainer's processor. It listens on the loopback address or, for a run on several nodes, on the
address of the rendezvous, where anyone who can connect can use it; the run prints the address.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console

from jigsaw.config.schema import Recipe
from jigsaw.engines.vllm_requests import ON_CPU, VllmSettings
from jigsaw.errors import JigsawError
from jigsaw.processes import die_with_parent
from jigsaw.run_folder import RunFolder
from jigsaw.topology import Topology

LOOPBACK = "127.0.0.1"
SECONDS_TO_END = 30


@dataclass(frozen=True)
class Address:
    """The address of a server.

    Attributes:
        host: the loopback address, or the first node's name or address.
        port: port for requests; the next port is for weights.
    """

    host: str
    port: int

    @property
    def url(self) -> str:
        """The URL for requests."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def weights_port(self) -> int:
        """The port at which the first rank sends weights to the server."""
        return self.port + 1


def server_address(recipe: Recipe, first_node: str | None = None) -> Address:
    """The address of a recipe's server.

    Args:
        recipe: a recipe in server mode.
        first_node: name or address of the first node, for runs on several nodes.
    """
    host = LOOPBACK if recipe.distributed.nodes == 1 or first_node is None else first_node
    return Address(host, recipe.rollout.port)


def listening_address(address: Address) -> Address:
    """The address with the host name resolved to a number; a loopback address is returned unchanged.

    Raises:
        JigsawError: the host name cannot be resolved, or resolves to a loopback address, as in Debian's `/etc/hosts`,
            so that other nodes could not reach the server.
    """
    if address.host == LOOPBACK:
        return address
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise JigsawError(
            f"--rendezvous {address.host}: this node cannot resolve the name ({error.strerror})"
        ) from error
    numbers = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    reachable = [number for number in numbers if not ip_address(number.partition("%")[0]).is_loopback]
    if not reachable:
        raise JigsawError(
            f"--rendezvous {address.host}: on this node the name resolves to {', '.join(numbers)}, where other nodes "
            f"cannot reach the vLLM server; give the node's address in their shared network"
        )
    return Address(reachable[0], address.port)


def server_command(recipe: Recipe, model: Path, address: Address) -> list[str]:
    """The command that serves a checkpoint folder.

    It runs vLLM's module instead of `vllm serve`, which fails in the CPU build (0.31 reads the version of a package
    `vllm`, which has another name there); arguments and server are the same.
    """
    rollout, on_cpu = recipe.rollout, Topology.here(recipe.distributed).on_cpu
    settings = VllmSettings(
        dtype=recipe.model.dtype,
        seed=recipe.seed,
        max_model_len=rollout.max_model_len,
        completions=None if recipe.grpo is None else recipe.grpo.prompts_per_step * recipe.grpo.num_generations,
        gpu_memory_utilization=rollout.gpu_memory_utilization,
        tensor_parallel_size=rollout.tensor_parallel_size,
        enforce_eager=rollout.enforce_eager,
    )
    arguments = settings.arguments(on_cpu=on_cpu)
    arguments |= {"generation_config": "vllm", "uvicorn_log_level": "warning"}
    arguments["trust_request_mm_kwargs"] = True  # a request has the frame rate of its clips
    if not on_cpu:
        arguments["weight_transfer_config"] = {"backend": "nccl"}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", recipe.name, "--host", address.host, "--port", str(address.port)]
    return [*command, *(word for name, value in arguments.items() for word in _option(name, value))]


def _option(name: str, value: Any) -> list[str]:
    """An argument of `vllm.LLM` as an option of the server.

    >>> _option("enable_chunked_prefill", False), _option("limit_mm_per_prompt", {"image": 2})
    (['--no-enable-chunked-prefill'], ['--limit-mm-per-prompt', '{"image": 2}'])
    """
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", json.dumps(value) if isinstance(value, dict) else str(value)]


def server_environment(recipe: Recipe) -> dict[str, str]:
    """Environment variables of the server in addition to the launcher's: endpoints for weights, and its GPUs."""
    added = {"VLLM_SERVER_DEV_MODE": "1", "PYTHONSAFEPATH": "1"}
    if os.environ.get("VLLM_LOGGING_LEVEL") == "ERROR":  # set for engines in this process; the server has a log file
        added["VLLM_LOGGING_LEVEL"] = "INFO"
    topology = Topology.here(recipe.distributed)
    if topology.on_cpu:
        patient = {"VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "3600"}  # the first step compiles, slowly on a busy machine
        return added | {name: os.environ.get(name, value) for name, value in (ON_CPU | patient).items()}
    first, count = topology.per_node, recipe.rollout.tensor_parallel_size
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(number) for number in range(first + count)]
    return added | {"CUDA_VISIBLE_DEVICES": ",".join(devices[first : first + count])}


def server_line(recipe: Recipe, folder: RunFolder, first_node: str | None) -> str:
    """The command line of the server that `serving` starts."""
    address = server_address(recipe, first_node)
    variables = [f"{name}={shlex.quote(value)}" for name, value in server_environment(recipe).items()]
    return " ".join([*variables, shlex.join(server_command(recipe, folder.server / "model", address))])


@contextmanager
def serving(recipe: Recipe, start: str, folder: RunFolder, first_node: str | None, console: Console) -> Iterator[None]:
    """Run a server, ready for requests, during the block.

    Args:
        recipe: a recipe in server mode.
        start: the start checkpoint of the stage.
        folder: the run folder; the server's output goes to its `server.log`.
        first_node: name or address of this machine, for runs on several nodes.
        console: the console on which its address is printed.

    Raises:
        JigsawError: its port is in use, or it ended before it was ready.
    """
    address = listening_address(server_address(recipe, first_node))
    if _responds(address):
        raise JigsawError(
            f"rollout.port: another program listens on {address.host}:{address.port}; "
            f"choose another port with rollout.port=PORT"
        )
    model = _write_model(recipe, start, folder.server / "model")
    command = server_command(recipe, model, address)
    environment = os.environ | server_environment(recipe)
    log = folder.server_log
    with log.open("ab") as output:
        server = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True, preexec_fn=_end_with_parent
        )
    try:
        reach = "only from this machine" if address.host == LOOPBACK else "from any machine, without a password"
        console.print(
            f"  server  vLLM starts on {address.host}:{address.port}, reachable {reach}; its output is in {log}",
            highlight=False,
            soft_wrap=True,
        )
        while not _responds(address):
            if server.poll() is not None:
                raise JigsawError(f"the vLLM server ended before it answered; its output is in {log}")
            time.sleep(0.5)
        yield
    finally:
        _end(server)


def _write_model(recipe: Recipe, start: str, folder: Path) -> Path:
    """Write the checkpoint that the server opens, with the trainer's processor."""
    from transformers import AutoConfig

    from jigsaw.engines.weights import write_checkpoint
    from jigsaw.models.load import load_processor

    processor: Any = load_processor(start, **recipe.model.processing)
    write_checkpoint(AutoConfig.from_pretrained(start, trust_remote_code=False), processor, folder)
    return folder


def _responds(address: Address) -> bool:
    try:
        with urlopen(f"{address.url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except URLError as error:  # an error status means that another program listens
        return hasattr(error, "code")
    except OSError:
        return False


def _end_with_parent() -> None:
    die_with_parent(signal.SIGTERM)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and its child processes."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sent)
            server.wait(SECONDS_TO_END)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
