"""The training lab without a page: its controls, and what is said of what goes wrong."""

import html
import threading

import pytest
import yaml
from views import PARAMS, alone, wait

from noiseutils.errors import UserError
from noiseutils.live.session import THREAD_NAME
from noiseutils.studies import live_lab
from noiseutils.studies.lab_noises import KINDS
from noiseutils.studies.live_lab import Params, pair
from noiseutils.studies.profiles import read_profile
from noiseutils.widgets import TrainingLab, training


@pytest.mark.parametrize("noise", KINDS)
def test_every_noise_has_a_last_frame(noise):
    lab = TrainingLab(PARAMS.replace(noise=noise, strength=KINDS[noise].usual), interactive=False)
    page = lab.static()
    alone(page)
    assert KINDS[noise].title.split("(")[0].strip() in html.unescape(page)
    if noise != "none":
        assert ("the noise η of" in page) == (noise != "adaptive_noise"), "which is still quiet"


def test_a_slider_counts_while_it_trains(started):
    started.controls.strength.value = 0.7
    started.controls.rate.value = 0.005
    wait(lambda: "ε = 0.7 (" in started.status.value and "learning rate 0.005" in started.status.value)
    noisy = started.session.runs["adversarial noise"]
    assert (noisy.noise.epsilon, noisy.schedule.learning_rate) == (0.7, 0.005)
    assert started.session.runs["no noise"].schedule.learning_rate == 0.005


def test_another_noise_waits_for_the_next_start(started):
    first = started.session
    started.controls.noise.value = "gaussian_noise"
    assert started.controls.strength.value == KINDS["gaussian_noise"].usual
    assert started.controls.strength.description == "strength σ, next training"
    started.controls.strength.value = 1.5  # of the noise to come: what runs has another
    said = started.waiting.value
    assert "Set for the next training: Gaussian noise on activations, σ = 1.5, after ReLU" in said
    assert "In training: ANL, ε = 0.1" in said
    assert first.runs["adversarial noise"].noise.epsilon == PARAMS.strength
    assert started.start.description == "▶ Restart"
    started.start.click()
    wait(lambda: started.session is not first and started.session.steps > 1)
    assert not first.running
    assert started.session.runs["gaussian noise"].noise.std == 1.5
    assert started.waiting.value == ""
    assert (started.start.description, started.controls.strength.description) == ("▶ Start", "strength σ")


def test_a_next_training_that_cannot_be_loaded_leaves_the_one_that_runs(started):
    first = started.session
    started.controls.data.value = "./no/such/folder"
    started.start.click()
    assert "no/such/folder" in started.message.value
    assert started.session is first
    assert first.running


def test_a_paused_training_goes_on_though_the_next_was_chosen_and_given_up(started):
    started.pause.click()
    wait(lambda: started.session.state == "paused")
    started.controls.seed.value = 5
    assert "seed 5" in started.waiting.value
    started.controls.seed.value = PARAMS.seed
    assert started.waiting.value == ""
    stood, first = started.session.steps, started.session
    started.start.click()
    wait(lambda: first.steps > stood)
    assert started.session is first


def test_where_noise_goes_is_chosen_in_the_list_before_anything_is_touched(live):
    assert live.controls.after.value == ("ReLU",)
    assert live.params.after == ()
    live.controls.after.value = ()
    assert live.controls.after.value == ("ReLU",), "nothing chosen is the usual place"
    live.controls.model.value = "resnet20"
    assert live.controls.after.value == ("BatchNorm2d",)
    live.controls.after.value = ("Conv2d",)
    live.controls.noise.value = "weight_noise"
    assert live.controls.after.value == ()
    assert live.controls.after.disabled
    live.controls.noise.value = "gaussian_noise"
    assert live.controls.after.value == ("Conv2d",)


def test_a_sliders_value_is_copied_without_the_rounding_errors_of_its_steps(live):
    live.controls.strength.value = 0.10000000000000009
    assert live.params.strength == 0.1
    assert "strength: 0.1\n" in html.unescape(live.files.copy.value)
    live.files.save.click()
    assert "strength: 0.1\n" in live.files.text.value


def test_defaults_come_back_by_one_click_and_the_training_goes_on(started):
    first = started.session
    started.controls.strength.value, started.controls.rate.value = 0.7, 0.005
    started.usual.click()
    assert (started.controls.strength.value, started.controls.rate.value) == (
        PARAMS.strength,
        PARAMS.learning_rate,
    )
    wait(lambda: f"ε = {PARAMS.strength:g} (" in started.status.value)
    assert started.session is first
    started.controls.noise.value = "gaussian_noise"
    started.controls.strength.value = 1.9
    started.usual.click()
    assert started.controls.strength.value == KINDS["gaussian_noise"].usual
    assert first.pending.strength == PARAMS.strength


def test_feature_maps_are_of_the_convolution_chosen(started):
    assert [value for _, value in started.controls.maps_of.options] == ["", "conv2"]
    started.controls.maps_of.value = "conv2"
    wait(lambda: started.record.last["no noise"].maps_of == "conv2")
    assert "feature maps of conv2" in started.record.board()
    started.controls.images.value = "3"
    wait(lambda: len(started.record.last["no noise"].maps) == 1)
    assert started.record.last["no noise"].maps_of == "conv2"


def test_a_training_pauses_after_the_epoch_asked_for_with_its_test(live):
    live.controls.pause_after.value = 2
    live.start.click()
    wait(lambda: live.session.state == "paused")
    wait(lambda: "Paused after epoch 2" in live.message.value)
    assert len(live.record.last["no noise"].tests) == 2
    live.controls.pause_after.value = 1
    assert "2 have been trained" in live.message.value
    live.start.click()
    wait(lambda: live.session.epochs_trained > 3)


def test_names_of_classes_data_and_errors_are_shown_and_not_run(live):
    hostile = "<img src=x onerror=alert(1)>"
    live.controls.data.value = hostile
    live.start.click()
    assert hostile not in live.message.value + live.waiting.value
    assert "&lt;img" in live.message.value


def test_going_back_to_the_noise_that_is_trained_brings_its_strength_back(started):
    started.controls.strength.value = 0.6
    started.controls.noise.value = "gaussian_noise"
    started.controls.noise.value = "adversarial_noise"
    assert started.controls.strength.value == 0.6


def test_a_slider_counts_though_the_data_is_mistyped(started):
    started.controls.data.value = "cifra10"
    started.controls.strength.value = 0.4
    wait(lambda: "ε = 0.4 (" in started.status.value)


def test_an_old_trainings_last_words_do_not_reach_the_new_one(live):
    old, record = live.session, live.record
    live.start.click()
    wait(lambda: live.session is not old and live.session.steps > 2)
    before, said = live.record.last, live.message.value
    live._draw(old, record, {})
    assert live.record is not record
    assert live.message.value == said
    assert live.record.last["no noise"].step >= before["no noise"].step


@pytest.mark.slow
def test_a_training_whose_loss_breaks_is_named(live):
    live.controls.noise.value = "gradient_noise"
    live.controls.strength.value = 0.2
    live.controls.rate.value = 1.0
    live.controls.model.value = "lenet5"
    live.start.click()
    wait(lambda: "no longer finite" in live.status.value, seconds=120)
    wait(lambda: not live.session.running, seconds=180)
    assert "Finished" not in live.message.value


def test_places_that_a_file_names_stay():
    lab = TrainingLab(PARAMS.replace(after=("input", "relu1")), interactive=True)
    assert lab._read_controls().after == ("input", "relu1")


def test_test_images_are_chosen_by_number_while_it_trains(started):
    started.controls.images.value = "3, 14, 15"
    wait(lambda: started.record.last["no noise"].maps.shape[0] == 3)
    assert started._read_controls().shown == (3, 14, 15)
    for typed, words in (("3, x", "whole numbers"), ("1,2,3,4,5", "up to 4"), ("4000", "not there")):
        started.controls.images.value = typed
        assert words in started.message.value
    assert started.record.last["no noise"].maps.shape[0] == 3


def test_a_strength_below_zero_is_the_adversarial_kinds_own(live):
    live.controls.strength.value = -0.5
    assert live._read_controls().strength == -0.5
    live.controls.noise.value = "noisy_dropout"
    assert live.controls.strength.min == 0
    with pytest.raises(UserError, match="at least 0"):
        live_lab.noisy_run(PARAMS.replace(noise="noisy_dropout", strength=-0.5))


def test_pause_start_stop_and_reset(started):
    started.pause.click()
    wait(lambda: started.session.state == "paused")
    assert "Paused" in started.message.value
    stood = started.session.steps
    started.start.click()
    wait(lambda: started.session.steps > stood)
    started.stop.click()
    assert not started.session.running
    assert f"Stopped after {started.session.steps:,} steps" in started.message.value
    started.controls.strength.value = 0.9
    started.reset.click()
    assert started.controls.strength.value == PARAMS.strength
    assert started.session.steps == 2
    assert "Press Start" in started.message.value


def test_starting_one_lab_ends_the_other(live):
    other = TrainingLab(PARAMS, interactive=True)
    live.start.click()
    wait(lambda: live.session.steps > 3)
    other.start.click()
    assert "another lab" in live.message.value
    wait(lambda: not live.session.running)
    assert other.session.running
    other.close()
    assert not [t for t in threading.enumerate() if t.name == THREAD_NAME]


def test_what_is_typed_wrong_is_said_and_nothing_is_lost(live):
    live.controls.data.value = "cifra10"
    assert "is not known" in live.message.value
    assert "shapes, digits" in live.message.value
    live.start.click()
    assert "is not known" in live.message.value
    assert not live.session.running
    live.controls.data.value = "./no/such/folder"
    live.start.click()
    assert "no/such/folder" in live.message.value
    live.controls.data.value = "digits"
    live.start.click()
    wait(lambda: live.session.steps > 1)


def test_a_training_that_fails_is_said_on_the_page(live, monkeypatch):
    def broken(self, *probes):
        raise RuntimeError("a broken record")

    monkeypatch.setattr(training.Record, "add", broken)
    live.start.click()
    wait(lambda: "a broken record" in live.message.value)
    wait(lambda: not live.session.running)


def test_controls_copied_as_yaml_are_what_papermill_and_the_command_line_take(live, tmp_path):
    live.controls.noise.value = "image_blur"
    live.controls.strength.value = 1.4
    live.controls.after.value = ()
    live.files.save.click()
    path = tmp_path / "outputs" / "live_lab" / "params.yaml"
    told = read_profile(Params, "live_lab", str(path))
    assert (told.noise, told.strength, told.profile) == ("image_blur", 1.4, "mine")
    assert live.files.text.value == path.read_text()
    assert html.escape(live.files.text.value) in live.files.copy.value, "what the page's button copies"
    values = yaml.safe_load(path.read_text())
    assert list(values) == list(Params.model_fields)
    assert TrainingLab(told, interactive=False).session.runs == pair(told)


def test_places_for_noise_are_those_of_the_network(live):
    live.controls.model.value = "tinycnn"
    assert "relu3" in live.controls.after.options
    live.controls.after.value = ("relu2",)
    assert next(iter(pair(live._read_controls()).values())).after == ("relu2",)
    live.controls.noise.value = "image_noise"
    assert live.controls.after.disabled


def test_up_to_three_comparisons_train_from_one_seed_in_their_own_colours(live):
    live.comparison.add.click()
    live.controls.noise.value = "gaussian_noise"
    live.comparison.add.click()
    live.comparison.add.click()
    assert "allowed: two, each once" in live.message.value
    assert "The next training is compared with" not in live.message.value
    live.controls.noise.value = "weight_noise"
    live.start.click()
    wait(lambda: live.session.steps > 2)
    names = ["weight noise", "adversarial noise, ε = 0.1", "gaussian noise, σ = 0.2", "no noise"]
    assert list(live.session.runs) == names
    wait(lambda: list(live.record.last) == names)
    live.controls.strength.value = 0.004  # of the first alone
    wait(lambda: "σ = 0.004 (" in live.status.value)
    assert live.session.runs["gaussian noise, σ = 0.2"].noise.std == 0.2
    for name in names:
        assert name in html.unescape(live.board.value)
    live.comparison.clear.click()
    assert live.params.beside == ()
    assert "In training: Gaussian noise on weights" in live.waiting.value


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        (("dropout 0.1",), "allowed: noisy_dropout"),
        (("gaussian_noise",), "such as gaussian_noise 0.2"),
        (("gaussian_noise nan",), "such as gaussian_noise 0.2"),
        (("gaussian_noise -1",), "at least 0"),
        (("gaussian_noise 1", "gaussian_noise 1"), "the values must differ"),
        (("gaussian_noise 1", "gaussian_noise 2", "gaussian_noise 3"), "beside"),
    ],
)
def test_what_cannot_be_compared_is_an_error(beside, words):
    with pytest.raises(UserError, match=words):
        PARAMS.replace(beside=beside)


def test_comparisons_do_not_change_the_trainings_that_were_there():
    more = pair(PARAMS.replace(beside=("gaussian_noise 0.3",)))
    assert {name: more[name].key for name in pair(PARAMS)} == {n: run.key for n, run in pair(PARAMS).items()}
    assert live_lab.attacked(PARAMS.replace(beside=("gaussian_noise 0.3",))) == live_lab.attacked(PARAMS)


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_pictures_are_saved_and_offered_while_it_trains(started, tmp_path, kind):
    (started.files.picture if kind == "png" else started.files.recording).click()
    path = tmp_path / "outputs" / "live_lab" / f"training_lab.{kind}"
    wait(lambda: "Download" in started.message.value)
    assert path.stat().st_size > 1000
    assert f'download="training_lab.{kind}"' in started.message.value
    assert started.session.running
