"""Plain, factory and async rewards, loaded by name, dotted path and file, in a GRPO step of TRL on a tiny model."""

from pathlib import Path

import pytest

from jigsaw.rewards import Composition, format_order

EXAMPLE = Path(__file__).parents[2] / "examples/reward_plugin"
TEXT = format_order([2, 3, 1])


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bytes_level = Tokenizer(models.BPE())
    bytes_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_level.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<eos>"]
    bytes_level.train_from_iterator([TEXT], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet))
    fast_tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_level, pad_token="<pad>", eos_token="<eos>")
    fast_tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return fast_tokenizer


def test_a_grpo_step_uses_and_logs_every_reward(tokenizer, tmp_path, monkeypatch):
    from datasets import Dataset
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    # given: rewards by name, dotted path and file
    monkeypatch.syspath_prepend(str(EXAMPLE))
    composed = Composition(
        [
            "visual_jigsaw",
            {"use": "length", "args": {"minimum": 8, "maximum": 64}},
            {"use": "jigsaw_brevity:brevity", "weight": 0.5, "only": ["video"], "args": {"limit": 50}},
            f"{EXAMPLE}/jigsaw_brevity.py:piece_talk",
            {"use": "jigsaw_brevity:slow_judge", "on_error": "skip"},
        ]
    )
    functions, weights = composed.trl_functions()
    calls = []
    inner = functions[0]

    def recording(**arguments):
        calls.append(arguments)
        return inner(**arguments)

    recording.__name__ = inner.__name__
    rows = [
        {
            "prompt": [{"role": "user", "content": "order?"}],
            "answer": [2, 3, 1],
            "num_pieces": 3,
            "task": task,
            "id": task,
        }
        for task in ("image", "video")
    ]
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    # when: one step is taken
    trainer = GRPOTrainer(
        model=Qwen2ForCausalLM(config),
        reward_funcs=[recording, *functions[1:]],
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=12,
            max_steps=1,
            logging_steps=1,
            reward_weights=weights,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
        ),
    )
    trainer.train()
    # then: each reward got message lists and the rows' columns, and its mean is logged
    (arguments,) = calls
    assert arguments["answer"] == [[2, 3, 1]] * 4
    assert arguments["completions"][0][0]["role"] == "assistant"
    log = trainer.state.log_history[0]
    names = ["visual_jigsaw", "length", "brevity", "piece_talk", "slow_judge"]
    assert {f"rewards/{name}/mean" for name in names} <= set(log)
    assert log["rewards/length/mean"] == 1.0  # twelve tokens are within 8 to 64
    assert log["reward"] >= 1.0
