"""Server mode: the command and the address of the vLLM server, and starting and stopping it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from rich.console import Console

from jigsaw.config.loading import load_recipe
from jigsaw.config.schema import Recipe
from jigsaw.engines import serving as module
from jigsaw.engines.serving import Address, listening_address, serving
from jigsaw.errors import JigsawError
from jigsaw.launch.checks import dry_run
from jigsaw.launch.torchrun import Node
from jigsaw.models.load import load_processor
from jigsaw.run import run as run_recipe
from jigsaw.run_folder import RunFolder

RECIPE = """
name: served
model: {path: CHECKPOINT, dtype: bfloat16, image: {max_pixels: 3136}}
data: {train: [{path: unused}]}
grpo: {max_steps: 1, prompts_per_step: 28}
rollout: {engine: vllm, mode: server, tensor_parallel_size: 2}
output: FOLDER/run
"""

HTTP_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def load(checkpoint, tmp_path, port):
    def with_overrides(*overrides: str) -> Recipe:
        text = RECIPE.replace("CHECKPOINT", checkpoint).replace("FOLDER", str(tmp_path))
        (tmp_path / "served.yaml").write_text(text, encoding="utf-8")
        (tmp_path / "run").mkdir(exist_ok=True)
        return load_recipe(str(tmp_path / "served.yaml"), [f"rollout.port={port}", *overrides])

    return with_overrides


def test_dry_run_prints_the_server_on_the_loopback_and_on_separate_gpus(load, port):
    shown = dry_run(load("distributed.gpus=6", "grpo.prompts_per_step=24"))
    line = next(line for line in shown.splitlines() if line.startswith("# server: "))
    assert f"--host 127.0.0.1 --port {port} " in line
    assert "CUDA_VISIBLE_DEVICES=6,7 " in line and "--tensor-parallel-size 2 " in line
    assert "--dtype bfloat16 " in line and "--logprobs-mode processed_logprobs " in line
    assert "--mm-processor-cache-gb 0 " in line and "--max-num-seqs 384 " in line and "--enforce-eager" not in line
    assert line.endswith("""--weight-transfer-config '{"backend": "nccl"}'""")


def test_the_server_of_several_nodes_runs_on_the_first_node_under_its_address(load, port):
    recipe = load("distributed={gpus: 1, nodes: 2}")
    first, second = (dry_run(recipe, Node(rank, "node-7:29500")) for rank in (0, 1))
    assert f"--host node-7 --port {port} " in first
    assert "# server" not in second


@pytest.mark.parametrize(
    "numbers, listens_on",
    [
        (["127.0.1.1"], None),
        (["127.0.0.1", "::1"], None),
        (["127.0.1.1", "10.0.0.7"], "10.0.0.7"),
        (["fd00::7"], "fd00::7"),
    ],
)
def test_a_server_for_other_nodes_listens_on_a_reachable_address(monkeypatch, numbers, listens_on):
    """In `/etc/hosts` of Debian, a machine has the address 127.0.1.1."""
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, 8000)) for number in numbers]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    if listens_on is None:
        with pytest.raises(JigsawError, match=rf"--rendezvous node-7: .* resolves to {numbers[0]}.*cannot reach"):
            listening_address(Address("node-7", 8000))
    else:
        assert listening_address(Address("node-7", 8000)) == Address(listens_on, 8000)


def test_a_name_that_cannot_be_resolved_is_refused(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(JigsawError, match=r"--rendezvous node-7: .* cannot resolve the name \(Name or service"):
        listening_address(Address("node-7", 8000))
    assert listening_address(Address("127.0.0.1", 8000)) == Address("127.0.0.1", 8000)  # one node resolves no name


def test_an_address_with_colons_has_brackets():
    assert Address("fd00::7", 8000).url == "http://[fd00::7]:8000"


def test_the_server_gets_its_gpus_from_cuda_visible_devices(load, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3,5,7")
    assert "CUDA_VISIBLE_DEVICES=5,7 " in dry_run(load("distributed.gpus=2"))


def test_a_server_runs_as_long_as_its_block_and_its_address_is_printed(load, port, tmp_path, monkeypatch, capsys):
    recipe = load("distributed.cpu_processes=1")
    models: list[Path] = []

    def http_server(_, model, address):
        models.append(model)
        return [sys.executable, "-c", HTTP_SERVER, str(address.port)]

    monkeypatch.setattr(module, "server_command", http_server)
    with serving(recipe, recipe.model.path, RunFolder(tmp_path / "run"), None, Console()):
        printed = capsys.readouterr().out
        assert f"127.0.0.1:{port}, reachable only from this machine" in printed
        assert load_processor(str(models[0])).image_processor.size["longest_edge"] == 3136
        with pytest.raises(JigsawError, match=rf"rollout.port: another program listens on 127.0.0.1:{port}"):
            serving(recipe, recipe.model.path, RunFolder(tmp_path / "run"), None, Console(quiet=True)).__enter__()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("level, logged", [("ERROR", "INFO"), ("DEBUG", None)])
def test_the_server_logs_more_than_errors(load, monkeypatch, level, logged):
    """The command sets ERROR for the engines in its own processes."""
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", level)
    assert module.server_environment(load("distributed.cpu_processes=1")).get("VLLM_LOGGING_LEVEL") == logged


def test_a_server_that_fails_at_its_start_is_reported_with_its_log(load, tmp_path, monkeypatch):
    recipe = load("distributed.cpu_processes=1")
    monkeypatch.setattr(module, "server_command", lambda *_: [sys.executable, "-c", "print('no room'); exit(3)"])
    with (
        pytest.raises(JigsawError, match=r"ended before it answered; its output is in .*server\.log"),
        serving(recipe, recipe.model.path, RunFolder(tmp_path / "run"), None, Console(quiet=True)),
    ):
        pass
    assert "no room" in RunFolder(tmp_path / "run").server_log.read_text()


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["rollout.sleep=true"], "sleep needs mode: colocate"),
        (["rollout.mode=colocate"], "tensor_parallel_size above 1 needs mode: server"),
        (["rollout={engine: vllm, mode: colocate, ahead: 1}"], "ahead needs engine: vllm and mode: server"),
        (["rollout.ahead=1"], "rollout.ahead needs grpo.vllm_importance_sampling_correction: true"),
        (
            ["rollout.ahead=1", "grpo.vllm_importance_sampling_correction=true", "sampling.dynamic=true"],
            "rollout.ahead samples before the current step is complete",
        ),
    ],
)
def test_settings_that_the_mode_does_not_support_are_refused(load, overrides, message):
    with pytest.raises(JigsawError, match=message):
        load(*overrides)


def test_missing_gpus_for_the_server_are_reported_before_anything_is_read(load, monkeypatch, tmp_path):
    monkeypatch.setattr("jigsaw.launch.machine.find_spec", lambda name: os)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    recipe = load("distributed.gpus=8", f"output={tmp_path}/new")
    with pytest.raises(JigsawError, match=r"the server needs its own GPUs, 8 \+ 2 in all, .* has 8; set .*gpus=6"):
        run_recipe(recipe, Console(quiet=True))
    assert not (tmp_path / "new").exists()
