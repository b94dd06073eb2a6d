"""What every view is, with a page and without one."""

import nbformat
from views import PARAMS, alone, pictures, wait

from noiseutils.book.export import to_html
from noiseutils.book.notebooks import WIDGET
from noiseutils.widgets import TrainingLab, view
from noiseutils.widgets.view import STATIC_PREFIX


def test_a_view_is_alive_where_a_page_answers(monkeypatch):
    assert not view.is_interactive(None)
    assert view.is_interactive(True)
    monkeypatch.setenv("JPY_SESSION_NAME", "06_live_lab.ipynb")
    assert view.is_interactive(None)
    assert not view.is_interactive(False)


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
    assert live.mark.startswith(STATIC_PREFIX)


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


def test_a_notebook_saved_with_a_live_view_becomes_a_page_with_its_last_frame(live, monkeypatch, tmp_path):
    outputs = []
    monkeypatch.setattr(view, "display", lambda bundle, **options: outputs.append(bundle))
    live._ipython_display_()
    cell = nbformat.v4.new_code_cell("lab", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("display_data", bundle) for bundle in outputs]
    path = tmp_path / "saved.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    page = to_html(path)
    assert "Epoch 1, step 2" in page
    assert pictures(page) >= 8
    assert "model_id" not in page
