"""A training in the lab is the training, whoever probes; its thread obeys and ends."""

import threading
import time

import pytest
import torch

from noiseutils import train
from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.live.record import KEPT_POINTS, Record
from noiseutils.live.session import DRAWING_SHARE, LEAST_PROBE_SECONDS, THREAD_NAME, Session, next_probe
from noiseutils.studies import live_lab
from noiseutils.studies.lab_noises import KINDS
from noiseutils.studies.live_lab import Params, pair
from noiseutils.training.loop import training

PARAMS = Params(train_size=160, test_size=40, batch_size=64, epochs=2)  # three steps an epoch
DATA = load(live_lab.plain_run(PARAMS).data)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == THREAD_NAME]


def finished(params: Params, every: int) -> tuple[Session, list]:
    seen = []
    session = Session(params, DATA, seen.append)
    session.run(steps=params.epochs * 3, every=every)
    return session, seen[:-2]  # without the end, which is drawn with the last tests, and said


@pytest.mark.parametrize("noise", KINDS)
def test_every_noise_trains_in_the_lab_as_by_train_however_often_it_is_probed(noise):
    params = PARAMS.replace(noise=noise, strength=KINDS[noise].usual)
    often, probes = finished(params, every=1)
    rarely, _ = finished(params, every=100)
    for name, run in pair(params).items():
        alone = train(run, data=DATA, engine="eager")
        for session in (often, rarely):
            found = session.networks()[name].state_dict()
            assert all(torch.equal(found[key], value) for key, value in alone.model.state_dict().items())
    assert len(probes) == 6


def test_a_probe_at_an_epochs_end_has_the_epochs_means():
    _, probes = finished(PARAMS, every=3)
    for name, run in pair(PARAMS).items():
        probe, row = probes[-1][name], train(run, data=DATA, engine="eager").history.iloc[-1]
        assert probe.epoch == row.epoch == 2
        assert probe.loss == pytest.approx(row.train_loss)
        assert probe.accuracy == pytest.approx(row.train_accuracy)
        assert probe.gradient_norm == pytest.approx(row.gradient_norm)


def test_a_probe_sees_the_noise_where_it_goes_and_how_loud_it_is():
    _, probes = finished(PARAMS.replace(noise="adversarial_noise", strength=0.5), every=2)
    noisy, plain = probes[-1]["adversarial noise"], probes[-1]["no noise"]
    assert list(noisy.stds) == list(plain.stds) == ["relu1", "relu2", "relu3", "relu4"]
    assert noisy.noise is not None
    assert noisy.noise.own
    # Eq. 4: at most epsilon times s(h), which the noise, itself a part of what is measured, hardly changes
    assert 0 < abs(noisy.noise.noise).max() < 0.5 * 1.5 * noisy.stds["relu1"]
    assert noisy.noise.before.min() >= 0, "activations behind a ReLU, before the noise"
    assert plain.noise is None
    assert noisy.maps.shape == (2, 6, 28, 28)
    assert 0 <= noisy.maps.min() < noisy.maps.max() <= 1


@pytest.mark.parametrize(
    ("noise", "what"),
    [
        ("image_blur", "images"),
        ("adversarial_training", "images"),
        ("weight_noise", "filters of the first convolution"),
        ("gradient_noise", "filters of the first convolution"),
    ],
)
def test_noise_that_is_not_on_activations_is_shown_where_it_is(noise, what):
    _, probes = finished(PARAMS.replace(noise=noise, strength=KINDS[noise].usual), every=2)
    picture = next(iter(probes[-1].values())).noise
    assert picture is not None
    assert (picture.what, picture.own) == (what, False)
    assert abs(picture.noise).max() > 0
    assert len(picture.before) == len(picture.noise)


def test_a_change_made_while_a_step_is_drawn_counts_from_the_next_step():
    """The same weights after each step as when the change is sent to the training itself."""
    louder = PARAMS.replace(strength=0.9, learning_rate=0.005)
    seen = []

    def draw(probes):
        if probes and session.steps == 3:
            session.tune(louder)
        seen.append((session.steps, session.runs == pair(louder), session.params))

    session = Session(PARAMS, DATA, draw)
    session.run(steps=5, every=1)
    for name, run in pair(PARAMS).items():
        steps, change = training(run, data=DATA, engine="eager"), None
        for _ in range(5):
            state = steps.send(change)
            change = pair(louder)[name] if state.step == 3 else None
        expected = state.model.state_dict()
        found = session.networks()[name].state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert [changed for step, changed, _ in seen if step > 3] == [True] * (len(seen) - 3)
    assert [changed for step, changed, _ in seen if step <= 3] == [False] * 3
    assert seen[-1][2] == louder


def test_a_change_is_drawn_soon_and_then_probes_are_as_rare_as_before():
    louder, unseen = PARAMS.replace(strength=0.9), []

    def draw(probes):
        if probes and session.steps == 1:
            session.tune(louder)
        unseen.append(session._unseen)

    session = Session(PARAMS, DATA, draw)
    session.run(steps=3, every=1)
    assert unseen[:3] == [True, True, False]
    session._drawn, session._soonest = 100.0, 200.0
    assert session._next_probe() == 200
    session.tune(PARAMS)
    assert session._next_probe() == 100 + LEAST_PROBE_SECONDS


def test_a_training_whose_loss_breaks_is_named_and_the_other_goes_on():
    wild = PARAMS.replace(noise="weight_noise", strength=1e20)
    seen = []
    session = Session(wild, DATA, seen.append)
    session.start()
    wait(lambda: not session.running)
    assert session.diverged == ["weight noise"]
    assert session.state == "finished"
    assert session.steps == 6
    assert len(seen[-2]["no noise"].tests) == 2, "both epochs of the other were tested"


@pytest.mark.parametrize("how", ["finished", "stopped", "failed"])
def test_networks_are_handed_out_though_the_thread_ends_meanwhile(how):
    def draw(probes):
        if probes and how == "failed" and session.steps > 3:
            raise ZeroDivisionError

    session = Session(PARAMS.replace(epochs=2 if how == "finished" else 500), DATA, draw)
    session.start()
    found = []
    while session.running:
        found.append(session.networks())
        if how == "stopped" and session.steps > 3:
            session.stop(timeout=0)
    assert session.state == how
    assert set(session.networks()) == set(session.runs)


def test_a_stop_that_takes_too_long_says_so():
    session = Session(PARAMS.replace(epochs=500), DATA, lambda probes: time.sleep(0.3))
    session.start()
    wait(lambda: session.steps > 0)
    assert not session.stop(timeout=0.0)
    assert session.stopping
    assert session.stop()


def test_noisy_dropouts_picture_is_the_noise_without_what_dropout_does():
    params = PARAMS.replace(noise="noisy_dropout", strength=0.4)
    _, probes = finished(params, every=2)
    noise = probes[-1]["noisy dropout"].noise.noise
    there = abs(noise) > 0
    assert 0.1 < there.mean() < 0.4, "in a quarter of the neurons"
    assert noise[there].std() == pytest.approx(0.4, rel=0.2)
    _, probes = finished(params.replace(noise="noisy_dropout_all"), every=2)
    everywhere = probes[-1]["noisy dropout all"].noise.noise
    assert (abs(everywhere) > 0).mean() > 0.99
    assert everywhere.std() == pytest.approx(0.4, rel=0.2)


def test_a_probe_changes_nothing_in_a_network_with_batchnorm_whose_noise_goes_in_place():
    params = PARAMS.replace(model="resnet20", width=0.25, batch_size=80)
    session = Session(params, DATA, lambda probes: None)
    session.run(steps=4, every=1)
    for name, run in pair(params).items():
        found = session.networks()[name].state_dict()
        alone = train(run, data=DATA, engine="eager").model.state_dict()
        assert all(torch.equal(found[key], value) for key, value in alone.items())


def test_the_images_whose_maps_are_shown_can_be_chosen_meanwhile():
    seen = []

    def draw(probes):
        if probes and session.steps == 2:
            session.show((5, 3, 8))
        seen.extend(probe.images for probe in probes.values())

    session = Session(PARAMS.replace(compare=False, shown=(7,)), DATA, draw)
    session.run(steps=4, every=1)
    pixels = DATA.test.pixels[:, 0].numpy() / 255
    assert [len(images) for images in seen[:4]] == [1, 1, 3, 3]
    assert seen[0] == pytest.approx(pixels[[7]])
    assert seen[3] == pytest.approx(pixels[[5, 3, 8]])
    with pytest.raises(UserError, match="test image 40 is not there; allowed: 0 to 39"):
        session.show((1, 40))


def test_what_cannot_change_is_refused_and_the_training_goes_on():
    session = Session(PARAMS.replace(epochs=500), DATA, lambda probes: None)
    session.start()
    wait(lambda: session.steps > 2)
    with pytest.raises(UserError, match="noise cannot change"):
        session.tune(PARAMS.replace(epochs=500, noise="gaussian_noise"))
    before = session.steps
    wait(lambda: session.steps > before)
    assert session.stop()


def test_a_paused_training_stands_still_and_goes_on():
    session = Session(PARAMS.replace(epochs=500), DATA, lambda probes: None)
    session.start()
    wait(lambda: session.steps > 2)
    session.pause()
    wait(lambda: session.state == "paused")
    stood, networks = session.steps, session.networks()
    time.sleep(0.2)
    assert session.steps == stood
    assert set(networks) == {"adversarial noise", "no noise"}
    session.start()
    wait(lambda: session.steps > stood)
    assert session.stop()


def test_ten_restarts_leave_no_thread_and_no_hook():
    for _ in range(10):
        session = Session(PARAMS.replace(epochs=500), DATA, lambda probes: None)
        session.start()
        wait(lambda session=session: session.steps > 1)
        assert session.stop(timeout=10)
    assert threads() == []
    for watcher in session._watchers.values():
        modules = watcher.state.model.modules()
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


def test_networks_are_copies_from_between_two_steps():
    session = Session(PARAMS.replace(epochs=500), DATA, lambda probes: None)
    assert session.networks() == {}
    session.start()
    wait(lambda: session.steps > 2)
    first = session.networks()["no noise"]
    kept = {name: value.clone() for name, value in first.state_dict().items()}
    later = session.steps + 3
    wait(lambda: session.steps > later)
    assert not first.training
    assert all(torch.equal(kept[name], value) for name, value in first.state_dict().items())
    second = session.networks()["no noise"].state_dict()
    assert not all(torch.equal(kept[name], second[name]) for name in kept)
    assert session.stop()


def test_a_training_that_fails_says_so_and_ends():
    def draw(probes):
        if probes:
            raise ZeroDivisionError("drawn wrong")

    session = Session(PARAMS, DATA, draw)
    session.start()
    wait(lambda: not session.running)
    assert session.state == "failed"
    assert "drawn wrong" in str(session.error)
    with pytest.raises(ZeroDivisionError):
        Session(PARAMS, DATA, draw).run(steps=2, every=1)


def test_a_training_ends_by_itself_and_is_drawn_once_more():
    seen = []
    session = Session(PARAMS, DATA, seen.append)
    session.start()
    wait(lambda: not session.running)
    assert session.state == "finished"
    assert session.steps == 6
    assert seen[-1] == {}


@pytest.mark.parametrize("cost", [0.001, 0.02, 0.5])
def test_probes_are_so_rare_that_they_keep_to_their_share_of_the_time(cost):
    due = next_probe(100.0, cost)
    assert cost / (due - 100) <= DRAWING_SHARE
    assert due - 100 >= LEAST_PROBE_SECONDS


def test_curves_keep_their_ends_and_a_bounded_length():
    _, probes = finished(PARAMS, every=1)
    record = Record()
    probe = probes[-1]["no noise"]
    for step in range(3 * KEPT_POINTS):
        record.add({"no noise": type(probe)(**{**vars(probe), "step": step})})
    curve = record._points("no noise", "loss")
    assert KEPT_POINTS / 2 <= len(curve) <= KEPT_POINTS
    assert (curve[0][0], curve[-1][0]) == (0, 3 * KEPT_POINTS - 1)
    assert [x for x, _ in curve] == sorted(x for x, _ in curve)


def wait(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_last_picture_is_of_the_last_step_however_long_drawing_takes(monkeypatch):
    seen = []
    monkeypatch.setattr("noiseutils.live.session.DRAWING_SHARE", 1e-6)  # the next probe is due in an hour
    session = Session(PARAMS, DATA, seen.append)
    session.start()
    session._thread.join(60)
    assert session.state == "finished"
    drawn = [{probe.step for probe in probes.values()} for probes in seen]
    assert drawn == [{1}, {6}, {6}, set()]  # the third with the last epoch's tests
    assert all(len(probe.tests) == 2 for probe in seen[-2].values())
