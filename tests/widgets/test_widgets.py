"""The views without a page: what they show, what their controls do, and what is left when they are gone."""

import html
import re
import threading
import time

import pytest
import yaml
from torch import nn

from noiseutils.classifier import build_classifier
from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.live.attacking import ATTACKS
from noiseutils.live.session import NAME
from noiseutils.profiles import read_profile
from noiseutils.studies import live_lab
from noiseutils.studies.live_lab import KINDS, Params, pair
from noiseutils.widgets import AttackLab, ResultExplorer, TrainingLab, training, view
from noiseutils.widgets.attack import OWN
from noiseutils.widgets.latest import Latest
from noiseutils.widgets.results import letter
from noiseutils.widgets.view import STATIC, WIDGET

PARAMS = Params(train_size=160, test_size=40, epochs=300, steps=4)
DATA = load(live_lab.plain_run(PARAMS).data)


@pytest.fixture(autouse=True)
def _own_outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path / "outputs"))
    for name in view.ANSWERING:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def live():
    """A lab as on a page that answers."""
    lab = TrainingLab(PARAMS, interactive=True)
    yield lab
    lab.close()


def wait(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def pictures(page: str) -> int:
    return len(re.findall(r"<svg[^>]*role=\"img\"|<img ", page))


def alone(page: str) -> None:
    """Nothing on the page is fetched or run, and every picture has its text."""
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    for tag in re.findall(r"<img [^>]*>", page):
        assert re.search(r'alt="[^"]+"', tag)
    for tag in re.findall(r"<svg[^>]*role=\"img\"[^>]*>", page):
        assert re.search(r'aria-label="[^"]+"', tag)


def networks(count: int = 2) -> dict[str, nn.Module]:
    runs = list(pair(PARAMS).values())[:count]
    return {f"net {i}": build_classifier(run, 10, 1, 28).eval() for i, run in enumerate(runs)}


# --- where a view is alive


def test_a_view_is_alive_where_a_page_answers(monkeypatch):
    assert not view.answers(None)
    assert view.answers(True)
    monkeypatch.setenv("JPY_SESSION_NAME", "06_live_lab.ipynb")
    assert view.answers(None)
    assert not view.answers(False)


def test_without_a_page_a_view_is_its_last_frame_alone():
    lab = TrainingLab(PARAMS)
    bundle = lab._repr_mimebundle_()
    assert WIDGET not in bundle
    assert lab.session.steps == PARAMS.steps
    assert "step 4" in bundle["text/html"]
    alone(bundle["text/html"])
    assert pictures(bundle["text/html"]) >= 8


def test_on_a_page_a_view_is_a_widget_and_brings_what_stands_in_for_it(live):
    bundle = live._repr_mimebundle_()
    assert WIDGET in bundle
    assert f'id="{live.mark}"' in bundle["text/html"]
    alone(bundle["text/html"])
    assert f"#{live.mark} {{ display: none; }}" in live.box.children[0].value
    assert live.mark.startswith(STATIC)


def test_what_stands_in_for_a_view_is_renewed_when_it_stops(live, monkeypatch):
    shown, renewed = [], []

    class Handle:
        display_id = "here"

    monkeypatch.setattr(
        view, "display", lambda bundle, **options: shown.append((bundle, options)) or Handle()
    )
    monkeypatch.setattr(view, "update_display", lambda bundle, **options: renewed.append((bundle, options)))
    live._ipython_display_()
    assert [set(bundle) for bundle, _ in shown] == [{WIDGET}, {"text/html"}]
    live.start.click()
    wait(lambda: live.session.steps > 10)
    live.stop.click()
    wait(lambda: renewed)
    bundle, options = renewed[-1]
    assert options["display_id"] == "here"
    assert f"step {live.record.last['no noise'].step}" in bundle["text/html"]


# --- the training lab


@pytest.mark.parametrize("noise", KINDS)
def test_every_noise_has_a_last_frame(noise):
    lab = TrainingLab(PARAMS.replace(noise=noise, strength=KINDS[noise].usual), interactive=False)
    page = lab.static()
    alone(page)
    assert KINDS[noise].title.split("(")[0].strip() in html.unescape(page)
    if noise != "none":
        assert ("η, the noise" in page) == (noise != "adaptive_noise"), "which is still quiet"


def test_a_slider_counts_while_it_trains(live):
    live.start.click()
    wait(lambda: live.session.steps > 3)
    live.strength.value = 0.7
    live.rate.value = 0.005
    wait(lambda: "ε = 0.7, learning rate 0.005" in live.status.value)
    noisy = live.session.runs["adversarial noise"]
    assert (noisy.noise.epsilon, noisy.schedule.learning_rate) == (0.7, 0.005)
    assert live.session.runs["no noise"].schedule.learning_rate == 0.005


def test_another_noise_waits_for_the_next_start(live):
    live.start.click()
    wait(lambda: live.session.steps > 3)
    first = live.session
    live.noise.value = "gaussian_noise"
    assert "press Stop and then Start" in live.said.value
    assert live.strength.value == KINDS["gaussian_noise"].usual
    live.strength.value = 1.5  # of the noise to come: what runs has another
    assert first.runs["adversarial noise"].noise.epsilon == PARAMS.strength
    live.stop.click()
    live.start.click()
    wait(lambda: live.session is not first and live.session.steps > 1)
    assert live.session.runs["gaussian noise"].noise.std == 1.5


def test_going_back_to_the_noise_that_is_trained_brings_its_strength_back(live):
    live.start.click()
    wait(lambda: live.session.steps > 3)
    live.strength.value = 0.6
    live.noise.value = "gaussian_noise"
    live.noise.value = "adversarial_noise"
    assert live.strength.value == 0.6


def test_a_slider_counts_though_the_data_is_mistyped(live):
    live.start.click()
    wait(lambda: live.session.steps > 3)
    live.data.value = "cifra10"
    live.strength.value = 0.4
    wait(lambda: "ε = 0.4" in live.status.value)


def test_an_old_trainings_last_words_do_not_reach_the_new_one(live):
    old, record = live.session, live.record
    live.start.click()
    wait(lambda: live.session is not old and live.session.steps > 2)
    before, said = live.record.last, live.said.value
    live._draw(old, record, {})
    assert live.record is not record
    assert live.said.value == said
    assert live.record.last["no noise"].step >= before["no noise"].step


def test_a_training_whose_loss_breaks_is_named(live):
    live.noise.value = "gradient_noise"
    live.strength.value = 0.2
    live.rate.value = 1.0
    live.model.value = "lenet5"
    live.start.click()
    wait(lambda: "no longer finite" in live.status.value, seconds=120)
    wait(lambda: not live.session.running)
    assert "Finished" not in live.said.value


def test_places_that_a_file_names_stay():
    lab = TrainingLab(PARAMS.replace(after=("input", "relu1")), interactive=True)
    assert lab._told().after == ("input", "relu1")


def test_a_strength_below_zero_is_the_adversarial_kinds_own(live):
    live.strength.value = -0.5
    assert live._told().strength == -0.5
    live.noise.value = "noisy_dropout"
    assert live.strength.min == 0
    with pytest.raises(UserError, match="at least 0"):
        live_lab.noisy_run(PARAMS.replace(noise="noisy_dropout", strength=-0.5))


def test_pause_start_stop_and_reset(live):
    live.start.click()
    wait(lambda: live.session.steps > 3)
    live.pause.click()
    wait(lambda: live.session.state == "paused")
    assert "Paused" in live.said.value
    stood = live.session.steps
    live.start.click()
    wait(lambda: live.session.steps > stood)
    live.stop.click()
    assert not live.session.running
    assert f"Stopped after {live.session.steps:,} steps" in live.said.value
    live.strength.value = 0.9
    live.reset.click()
    assert live.strength.value == PARAMS.strength
    assert live.session.steps == 2
    assert "Press Start" in live.said.value


def test_starting_one_lab_ends_the_other(live):
    other = TrainingLab(PARAMS, interactive=True)
    live.start.click()
    wait(lambda: live.session.steps > 3)
    other.start.click()
    assert "another lab" in live.said.value
    wait(lambda: not live.session.running)
    assert other.session.running
    other.close()
    assert not [t for t in threading.enumerate() if t.name == NAME]


def test_what_is_typed_wrong_is_said_and_nothing_is_lost(live):
    live.data.value = "cifra10"
    assert "is not known" in live.said.value
    assert "shapes, digits" in live.said.value
    live.start.click()
    assert "is not known" in live.said.value
    assert not live.session.running
    live.data.value = "./no/such/folder"
    live.start.click()
    assert "no/such/folder" in live.said.value
    live.data.value = "digits"
    live.start.click()
    wait(lambda: live.session.steps > 1)


def test_a_training_that_fails_is_said_on_the_page(live, monkeypatch):
    def broken(self, looks):
        raise RuntimeError("a broken record")

    monkeypatch.setattr(training.Record, "add", broken)
    live.start.click()
    wait(lambda: "a broken record" in live.said.value)
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
    assert next(iter(pair(live._told()).values())).after == ("relu2",)
    live.noise.value = "image_noise"
    assert live.after.disabled


# --- the attack lab


def test_the_attack_lab_shows_each_networks_answer():
    lab = AttackLab(networks(), DATA, image=3, interactive=False)
    page = lab.static()
    alone(page)
    assert "test image 3" in page
    assert all(name in page for name in ("net 0", "net 1", "it flips at", "mean change"))


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_a_last_frame(attack):
    page = AttackLab(networks(1), DATA, attack=attack, interactive=False).static()
    alone(page)
    assert ATTACKS[attack].title.split(",")[0] in page


def test_networks_that_are_still_to_be_made_do_not_keep_a_page_waiting():
    made = threading.Event()

    def make():
        made.wait(30)
        return networks()

    lab = AttackLab(make, DATA, interactive=True)
    assert "on their way" in lab.shown.value
    assert lab.against.options == (OWN,)
    made.set()
    wait(lambda: "it flips at" in lab.shown.value)
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
    assert "Taken after" in lab.said.value


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


def test_a_request_that_fails_does_not_keep_the_next_from_being_done(monkeypatch):
    done = []

    def work(request):
        if request == 0:
            raise RuntimeError("broken")
        done.append(request)

    monkeypatch.setattr(threading, "excepthook", lambda said: done.append(said.exc_type))
    latest = Latest(work, "test-latest")
    latest.ask(0)
    wait(lambda: done == [RuntimeError])
    wait(lambda: not [t for t in threading.enumerate() if t.name == "test-latest"])
    latest.ask(1)
    wait(lambda: done == [RuntimeError, 1])


def test_of_many_requests_the_last_is_done_and_the_thread_ends():
    begun, done = threading.Event(), []

    def work(request):
        begun.set()
        time.sleep(0.1)
        done.append(request)

    latest = Latest(work, "test-latest")
    latest.ask(0)
    begun.wait()
    for request in range(1, 20):
        latest.ask(request)
    wait(lambda: 19 in done)
    assert done == [0, 19]
    wait(lambda: not [t for t in threading.enumerate() if t.name == "test-latest"])


# --- the result explorer


def test_the_explorer_shows_cells_curves_classes_and_ours_beside_the_papers():
    page = ResultExplorer("noisy_dropout", "cifar10-jpeg", interactive=False).static()
    alone(page)
    for words in (
        "15 runs in 5 cells",
        "top-1 error",
        "accuracy by class",
        "Ours beside the paper",
        "agrees",
    ):
        assert words in page
    assert "cifar10-jpeg" in page


def test_the_explorer_goes_from_study_to_study_and_from_a_figure_to_its_runs():
    explorer = ResultExplorer("noisy_dropout", "cifar10-jpeg", interactive=True)
    explorer.study.value = "adaptive_noise"
    assert "adaptive_noise, cifar10-jpeg" in explorer.shown.value
    explorer.choose("controls_momentum")
    assert re.search(r"drawn from \d+ runs", explorer.said.value)
    assert 0 < len(explorer.cells.value) < len(explorer.stored.cells)
    explorer.choose("schedule")
    assert "shows no run" in explorer.said.value
    with pytest.raises(UserError, match=r"allowed: .*controls_momentum"):
        explorer.choose("figure_99")


@pytest.mark.parametrize(
    ("study", "profile", "words"),
    [("dropout", None, "allowed: noisy_dropout"), ("noisy_dropout", "cifar10-typo", "allowed: cifar10-jpeg")],
)
def test_what_the_explorer_does_not_have_is_an_error(study, profile, words):
    with pytest.raises(UserError, match=words):
        ResultExplorer(study, profile, interactive=False)


def test_more_cells_than_there_are_colours_are_counted():
    explorer = ResultExplorer("adaptive_noise", "cifar10-jpeg", interactive=False)
    explorer.cells.value = tuple(range(len(explorer.stored.cells)))
    assert "Curves of the first 7 cells" in explorer.shown.value
    assert [letter(i) for i in (0, 25, 26, 27, 52)] == ["A", "Z", "AA", "AB", "BA"]


def test_where_nothing_is_stored_the_explorer_says_how_to_make_it():
    page = ResultExplorer("noisy_dropout", "smoke", interactive=False).static()
    assert "noiseutils run noisy_dropout --profile smoke" in page
