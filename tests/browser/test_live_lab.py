"""The live lab as a person uses it: in JupyterLab, by mouse and by keyboard."""

import re
import urllib.request

import pytest
from lab_page import ROOT, LabPage, free_port, jupyterlab, reachable, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
WIDE, PHONE = {"width": 1500, "height": 1100}, {"width": 390, "height": 844}
HARMLESS = ("favicon",)
RIGHT = "e => e.getBoundingClientRect().right"


@pytest.fixture(scope="module")
def notebooks(browser, tmp_path_factory):
    """A folder, and in it as many notebooks as there are tests: each with a kernel of its own."""
    folder = tmp_path_factory.mktemp("jupyterlab")
    with jupyterlab(folder, copies=6) as addresses:
        yield folder, addresses


@pytest.fixture
def lab(opened, notebooks):
    folder, addresses = notebooks
    with opened(addresses.pop(), viewport=WIDE) as (page, errors):
        found = LabPage(page, folder)
        found.run_all()
        yield found
        said = [error for error in errors if not any(word in error for word in HARMLESS)]
        assert said == []


def test_a_slider_moved_while_it_trains_moves_the_pictures(lab, tmp_path):
    lab.page.get_by_role("combobox", name="noise").select_option(
        label="Gaussian noise on activations (You et al., for comparison)"
    )
    lab.button("Start").click()
    lab.until(lambda: lab.steps() > 30, "30 steps")
    std = lab.numbers("std of relu1")["gaussian noise"]
    loss, maps = lab.chart("training loss").first.inner_html(), lab.page.locator("img[alt*='feature maps']")
    before = maps.first.get_attribute("src")

    lab.slider("strength").focus()
    lab.page.keyboard.press("End")  # from 0.2 to the end of the slider, 2
    lab.until(lambda: "σ = 2 (" in lab.status(), "the new strength in the numbers")
    lab.until(
        lambda: lab.numbers("std of relu1")["gaussian noise"] > max(1.9, 1.3 * std),
        "a larger std behind the noise",
    )
    lab.until(lambda: lab.chart("training loss").first.inner_html() != loss, "another curve")
    lab.until(lambda: maps.first.get_attribute("src") != before, "other feature maps")

    lab.button("Pause").click()
    lab.page.get_by_text("Paused between two steps").wait_for()
    lab.until(lambda: lab.kernel("lab.session.state") == "'paused'", "a pause")
    stood = lab.kernel("lab.session.steps")
    lab.page.wait_for_timeout(700)
    assert lab.kernel("lab.session.steps") == stood
    lab.button("Start").click()
    lab.until(lambda: lab.steps() > int(stood), "it goes on")

    lab.button("Stop").click()
    lab.page.get_by_text("Stopped after").wait_for()
    assert lab.kernel("lab.session.running") == "False"
    shot = tmp_path / "training.png"
    lab.page.screenshot(path=shot)
    assert shot.stat().st_size > 20_000

    lab.button("Reset").click()
    lab.page.get_by_role("status").get_by_text("Press Start.").wait_for()
    lab.until(lambda: lab.steps() <= 2, "the beginning")


def test_the_bar_stays_the_sliders_have_names_and_the_yaml_is_copied(lab):
    handles = lab.page.locator(".jp-OutputArea-output .noUi-handle")
    names = {"strength ε", "learning rate", "δ"}  # δ is the attack lab's, some cells below
    lab.until(lambda: {handle.get_attribute("aria-label") for handle in handles.all()} == names, "the names")
    lab.page.get_by_role("combobox", name="noise").select_option(label="no noise")
    lab.until(
        lambda: lab.slider("strength").get_attribute("aria-label") == "strength", "the new slider's name"
    )
    lab.page.get_by_role("combobox", name="noise").select_option(
        label="ANL: on activations, along the loss gradient (You et al.)"
    )
    lab.until(lambda: lab.slider("strength").get_attribute("aria-label") == "strength ε", "the slider of ANL")
    maps = lab.page.locator("img[alt*='feature maps']").first
    maps.scroll_into_view_if_needed()
    for part in (maps, lab.button("Start"), lab.page.locator(".widget-html", has_text="drawing takes").first):
        assert part.bounding_box()["y"] < WIDE["height"]
        assert part.bounding_box()["y"] >= 0
    lab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lab.page.get_by_role("button", name="More settings").click()
    lab.slider("strength").focus()
    lab.page.keyboard.press("ArrowRight")
    lab.until(lambda: lab.kernel("lab.params.strength") == "0.105", "another strength")
    copy = lab.page.get_by_role("button", name="Copy as params.yaml")
    lab.until(lambda: "strength: 0.105\n" in (copy.get_attribute("data-text") or ""), "the page's copy")
    copy.click()
    lab.page.get_by_text("Copied.").wait_for()
    copied = lab.page.evaluate("navigator.clipboard.readText()")
    assert "strength: 0.105\n" in copied
    lab.page.get_by_role("button", name="Full screen").click()
    lab.until(lambda: lab.page.evaluate("document.fullscreenElement !== null"), "the whole screen")


def test_on_a_phone_nothing_of_the_lab_is_cut_off(lab):
    lab.page.keyboard.press("Control+b")  # JupyterLab's list of files
    lab.page.set_viewport_size(PHONE)
    view = lab.page.locator(".nu-lab").first
    lab.until(lambda: view.evaluate(RIGHT) <= PHONE["width"], "a lab as narrow as the phone")
    parts = "select, button, input, .noUi-target, svg[role=img], img"
    beyond = (
        f"(e, right) => [...e.querySelectorAll('{parts}')]"
        ".filter(x => x.getBoundingClientRect().right > right + 1).map(x => x.outerHTML.slice(0, 80))"
    )
    lab.until(lambda: view.evaluate(beyond, view.evaluate(RIGHT)) == [], "all controls within the lab")
    lab.page.locator("img[alt*='feature maps']").first.scroll_into_view_if_needed()
    for part in (lab.button("Start").first, lab.slider("strength")):  # at hand beside the pictures
        assert 0 <= part.bounding_box()["y"] < PHONE["height"] / 3


def test_the_attack_lab_answers_and_takes_the_training_labs_networks(lab):
    table = lab.page.locator("table", has_text="flips at")
    table.first.wait_for()
    lab.until(lambda: "%" in table.first.inner_text(), "probabilities")
    before = table.first.inner_text()
    lab.slider("δ").focus()
    lab.page.keyboard.press("End")  # 128 of 255: what is left of a digit misleads
    lab.until(lambda: table.first.inner_text() != before, "another answer")
    lab.until(lambda: "(wrong)" in table.first.inner_text(), "a network that errs")

    attack = lab.page.get_by_role("combobox", name="attack", exact=True)
    for title, word in (("PGD, 20 steps", "PGD"), ("Gaussian blur", "σ"), ("Gaussian noise, one draw", "σ")):
        attack.select_option(label=title)
        lab.until(lambda word=word: word in lab.page.get_by_text("test image").last.inner_text(), title)
    attack.select_option(label="minimal change: a share of the smallest that is found")
    lab.until(lambda: "share" in table.first.inner_text(), "shares of the minimal change")

    lab.button("Next").click()
    lab.page.get_by_text("test image 1").first.wait_for()
    lab.button("Take the training lab's networks").click()
    lab.page.get_by_text(re.compile(r"taken after \d+ steps")).wait_for()


def test_the_explorer_leads_from_a_figure_to_its_runs(lab):
    lab.page.get_by_text("runs in").first.wait_for()
    lab.page.get_by_role("combobox", name="study").select_option(label="adaptive_noise")
    lab.page.get_by_text("adaptive_noise, cifar10-jpeg").first.wait_for()
    lab.button("Runs behind this figure").click()
    lab.page.get_by_role("status").get_by_text(re.compile(r"was drawn from \d+ runs")).wait_for()
    found = re.search(
        r"from (\d+) runs", lab.page.get_by_role("status").get_by_text("drawn from").inner_text()
    )
    runs = lab.page.locator("table", has_text="top-1 error").locator("code").filter(visible=True)
    lab.until(lambda: runs.count() == int(found[1]), "its runs' keys")


def test_the_keyboard_reaches_every_control(lab):
    controls = lab.page.locator(
        ".jp-OutputArea-output :is(select, button, input:not([type=hidden]), .noUi-handle):visible"
    )
    lab.page.locator("table", has_text="flips at").first.wait_for()
    lab.until(lambda: controls.count() >= 20, "20 controls")  # the attack's come after the training's
    wanted = controls.count()
    controls.first.focus()
    mark = "e => e.setAttribute('data-reached', '1')"
    for _ in range(3 * wanted):
        lab.page.evaluate(f"({mark})(document.activeElement)")
        lab.page.keyboard.press("Tab")
    missed = [
        controls.nth(i).evaluate("e => e.outerHTML.slice(0, 120)")
        for i in range(wanted)
        if controls.nth(i).get_attribute("data-reached") is None
    ]
    assert missed == []


def test_the_classroom_app_asks_for_its_token_and_then_shows_the_lab(opened, tmp_path):
    port = free_port()
    notebook = str(ROOT / "notebooks" / "06_live_lab.ipynb")
    flags = ("--no-browser", "--Voila.ip=127.0.0.1", f"--port={port}", "--token")
    with serving(tmp_path, "voila", notebook, *flags) as log:
        reachable(port)
        for place in ("", "api/kernels"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{place}", timeout=60) as answer:
                assert "login" in answer.url, place
        found = re.search(r"http://127\.0\.0\.1:\S*token=\w+", log.read_text())
        assert found, log.read_text()
        with opened(found[0], viewport=WIDE) as (page, _):
            lab = LabPage(page, tmp_path)
            lab.button("Start").click()
            lab.until(lambda: lab.steps() > 10, "10 steps")
            assert page.get_by_text("import TrainingLab").count() == 0
