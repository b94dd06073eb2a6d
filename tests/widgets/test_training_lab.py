"""The training lab without a page: its controls, and what is said of what goes wrong."""

import html
import threading

import pytest
import yaml
from views import PARAMS, alone, wait

from noiseutils.errors import UserError
from noiseutils.live.session import NAME
from noiseutils.studies import live_lab
from noiseutils.studies.live_lab import KINDS, Params, pair
from noiseutils.studies.profiles import read_profile
from noiseutils.widgets import TrainingLab, training


@pytest.mark.parametrize("noise", KINDS)
def test_every_noise_has_a_last_frame(noise):
    lab = TrainingLab(PARAMS.replace(noise=noise, strength=KINDS[noise].usual), interactive=False)
    page = lab.static()
    alone(page)
    assert KINDS[noise].title.split("(")[0].strip() in html.unescape(page)
    if noise != "none":
        assert ("η, the noise" in page) == (noise != "adaptive_noise"), "which is still quiet"


def test_a_slider_counts_while_it_trains(started):
    started.strength.value = 0.7
    started.rate.value = 0.005
    wait(lambda: "ε = 0.7, learning rate 0.005" in started.status.value)
    noisy = started.session.runs["adversarial noise"]
    assert (noisy.noise.epsilon, noisy.schedule.learning_rate) == (0.7, 0.005)
    assert started.session.runs["no noise"].schedule.learning_rate == 0.005


def test_another_noise_waits_for_the_next_start(started):
    first = started.session
    started.noise.value = "gaussian_noise"
    assert "press Stop and then Start" in started.message.value
    assert started.strength.value == KINDS["gaussian_noise"].usual
    started.strength.value = 1.5  # of the noise to come: what runs has another
    assert first.runs["adversarial noise"].noise.epsilon == PARAMS.strength
    started.stop.click()
    started.start.click()
    wait(lambda: started.session is not first and started.session.steps > 1)
    assert started.session.runs["gaussian noise"].noise.std == 1.5


def test_going_back_to_the_noise_that_is_trained_brings_its_strength_back(started):
    started.strength.value = 0.6
    started.noise.value = "gaussian_noise"
    started.noise.value = "adversarial_noise"
    assert started.strength.value == 0.6


def test_a_slider_counts_though_the_data_is_mistyped(started):
    started.data.value = "cifra10"
    started.strength.value = 0.4
    wait(lambda: "ε = 0.4" in started.status.value)


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
    live.noise.value = "gradient_noise"
    live.strength.value = 0.2
    live.rate.value = 1.0
    live.model.value = "lenet5"
    live.start.click()
    wait(lambda: "no longer finite" in live.status.value, seconds=120)
    wait(lambda: not live.session.running)
    assert "Finished" not in live.message.value


def test_places_that_a_file_names_stay():
    lab = TrainingLab(PARAMS.replace(after=("input", "relu1")), interactive=True)
    assert lab._read_controls().after == ("input", "relu1")


def test_test_images_are_chosen_by_number_while_it_trains(started):
    started.images.value = "3, 14, 15"
    wait(lambda: started.record.last["no noise"].maps.shape[0] == 3)
    assert started._read_controls().shown == (3, 14, 15)
    for typed, words in (("3, x", "whole numbers"), ("1,2,3,4,5", "up to 4"), ("4000", "not there")):
        started.images.value = typed
        assert words in started.message.value
    assert started.record.last["no noise"].maps.shape[0] == 3


def test_a_strength_below_zero_is_the_adversarial_kinds_own(live):
    live.strength.value = -0.5
    assert live._read_controls().strength == -0.5
    live.noise.value = "noisy_dropout"
    assert live.strength.min == 0
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
    started.strength.value = 0.9
    started.reset.click()
    assert started.strength.value == PARAMS.strength
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
    assert not [t for t in threading.enumerate() if t.name == NAME]


def test_what_is_typed_wrong_is_said_and_nothing_is_lost(live):
    live.data.value = "cifra10"
    assert "is not known" in live.message.value
    assert "shapes, digits" in live.message.value
    live.start.click()
    assert "is not known" in live.message.value
    assert not live.session.running
    live.data.value = "./no/such/folder"
    live.start.click()
    assert "no/such/folder" in live.message.value
    live.data.value = "digits"
    live.start.click()
    wait(lambda: live.session.steps > 1)


def test_a_training_that_fails_is_said_on_the_page(live, monkeypatch):
    def broken(self, probes):
        raise RuntimeError("a broken record")

    monkeypatch.setattr(training.Record, "add", broken)
    live.start.click()
    wait(lambda: "a broken record" in live.message.value)
    assert not live.session.running


def test_controls_copied_as_yaml_are_what_papermill_and_the_command_line_take(live, tmp_path):
    live.noise.value = "image_blur"
    live.strength.value = 1.4
    live.after.value = ()
    live.copy.click()
    path = tmp_path / "outputs" / "live_lab" / "params.yaml"
    told = read_profile(Params, "live_lab", str(path))
    assert (told.noise, told.strength, told.profile) == ("image_blur", 1.4, "mine")
    assert live.text.value == path.read_text()
    values = yaml.safe_load(path.read_text())
    assert list(values) == list(Params.model_fields)
    assert TrainingLab(told, interactive=False).session.runs == pair(told)


def test_places_for_noise_are_those_of_the_network(live):
    live.model.value = "tinycnn"
    assert "relu3" in live.after.options
    live.after.value = ("relu2",)
    assert next(iter(pair(live._read_controls()).values())).after == ("relu2",)
    live.noise.value = "image_noise"
    assert live.after.disabled
