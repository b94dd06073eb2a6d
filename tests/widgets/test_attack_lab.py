"""The attack lab without a page."""

import threading
import time
from dataclasses import replace

import pytest
from views import DATA, alone, networks, wait

from noiseutils.errors import UserError
from noiseutils.live.attacking import ATTACKS, Attacker
from noiseutils.widgets import AttackLab
from noiseutils.widgets.attack import OWN


def test_the_attack_lab_shows_each_networks_answer():
    lab = AttackLab(networks(), DATA, image=3, interactive=False)
    page = lab.static()
    alone(page)
    assert "test image 3" in page
    assert all(name in page for name in ("net 0", "net 1", "flips at", "mean change"))
    assert "probability of the right class, %, last values: net 0" in page


def test_a_class_that_is_called_a_tag_is_shown_and_not_run():
    hostile = "<img src=x onerror=alert(1)>"
    data = replace(DATA, classes=(hostile,) * 10)
    page = AttackLab(networks(), data, interactive=False).static()
    assert hostile not in page
    assert "&lt;img src=x" in page


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_a_last_frame(attack):
    page = AttackLab(networks(1), DATA, attack=attack, interactive=False).static()
    alone(page)
    assert ATTACKS[attack].title.split(",")[0] in page


def test_a_sliders_number_has_no_digits_that_say_nothing():
    lab = AttackLab(networks(1), DATA, attack="minimal_change", interactive=False)
    assert lab.size.readout_format == ".4", "100, not 100.000"


def test_networks_that_are_still_to_be_made_do_not_keep_a_page_waiting():
    made = threading.Event()

    def make():
        made.wait(30)
        return networks()

    lab = AttackLab(make, DATA, interactive=True)
    assert "being made" in lab.shown.value
    assert lab.against.options == (OWN,)
    made.set()
    wait(lambda: "flips at" in lab.shown.value)
    assert lab.against.options[1:] == ("net 0", "net 1")


def test_controls_ask_for_another_answer():
    lab = AttackLab(networks(), DATA, interactive=True)
    wait(lambda: "test image 0" in lab.shown.value)
    lab.next.click()
    wait(lambda: "test image 1" in lab.shown.value)
    lab.previous.click()
    lab.previous.click()
    wait(lambda: f"test image {len(DATA.test) - 1}" in lab.shown.value)
    lab.attack.value = "gaussian_blur"
    wait(lambda: "pixels across" in lab.shown.value)
    assert lab.size.max == ATTACKS["gaussian_blur"].most
    lab.attack.value = "fgsm"
    lab.size.value = 40.0
    lab.against.value = "net 1"
    wait(lambda: "made against net 1" in lab.shown.value and "δ = 40" in lab.shown.value)


def test_the_training_labs_networks_can_be_taken_over(live):
    lab = AttackLab(networks(), DATA, lab=live, interactive=True)
    live.start.click()
    wait(lambda: live.session.steps > 3)
    lab.take.click()
    wait(lambda: "adversarial noise" in lab.shown.value)
    assert "taken after" in lab.message.value


def test_networks_taken_over_while_others_are_made_stay(live):
    made = threading.Event()

    def make():
        made.wait(30)
        return networks()

    lab = AttackLab(make, DATA, lab=live, interactive=True)
    lab.take.click()
    made.set()
    wait(lambda: "no noise" in lab.shown.value)
    time.sleep(0.3)
    assert "net 0" not in lab.shown.value
    assert lab.against.options == (OWN, "adversarial noise", "no noise")


def test_an_attack_that_fails_is_said_on_the_page():
    def broken():
        raise UserError("no network could be made")

    assert "no network could be made" in AttackLab(broken, DATA, interactive=False).static()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"attack": "cw"}, "allowed: fgsm"), ({"image": 4000}, "allowed: 0 to 39"), ({"image": -1}, "allowed")],
)
def test_what_the_attack_lab_does_not_have_is_an_error(options, words):
    with pytest.raises(UserError, match=words):
        AttackLab(networks(), DATA, interactive=False, **options)


def test_of_many_requests_the_last_is_answered(monkeypatch):
    begun, answers, asked = [], Attacker.answers, threading.Event()

    def slow(self, image, *rest):
        begun.append(image)
        asked.wait(60)  # all but the first request come while the first is answered
        return answers(self, image, *rest)

    lab = AttackLab(networks(), DATA, interactive=True)
    wait(lambda: "test image 0" in lab.shown.value)
    monkeypatch.setattr(Attacker, "answers", slow)
    for image in range(1, 20):
        lab.image.value = image
    asked.set()
    wait(lambda: "test image 19" in lab.shown.value)
    assert begun[-1] == 19
    assert len(begun) <= 2
