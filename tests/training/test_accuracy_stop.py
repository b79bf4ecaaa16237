"""A warm-up that stops when the token accuracy reaches a level."""

from transformers import TrainerControl, TrainerState

from jigsaw.training.sft import ACCURACY_STEPS, AccuracyStop


def stops_at(accuracies, level):
    """Returns the step after which training stops, or None."""
    stop, control = AccuracyStop(level), TrainerControl(should_save=True)
    state = TrainerState(log_history=[])
    for step, accuracy in enumerate(accuracies, 1):
        state.log_history.append({"loss": 1.0} if accuracy is None else {"mean_token_accuracy": accuracy})
        stop.on_log(None, state, control)
        if control.should_training_stop:
            assert not control.should_save, "a run resumed from this step would train beyond it"
            return step
    return None


def test_the_stage_stops_when_the_mean_accuracy_of_some_steps_reaches_the_level():
    assert stops_at([0.5] * 10 + [0.9] * 10, 0.8) == 10 + 4
    assert stops_at([0.5] * 20, 0.8) is None


def test_a_single_step_above_the_level_does_not_stop_the_stage():
    assert stops_at([1.0] * (ACCURACY_STEPS - 1), 0.8) is None
    assert stops_at([0.7] * 10 + [1.0] + [0.7] * 10, 0.8) is None


def test_steps_without_an_accuracy_are_ignored():
    assert stops_at([0.9, None] * ACCURACY_STEPS, 0.8) == 2 * ACCURACY_STEPS - 1
