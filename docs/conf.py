"""Settings of the book, for Sphinx, which `noiseutils book` runs on a copy of this folder."""

import sys
from pathlib import Path

from noiseutils import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "noiseutils"
author = "The noiseutils authors"
copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "book_extension",
]
exclude_patterns = ["_ext", "_extra", "live_lab"]
html_extra_path = ["_extra"]

nb_execution_mode = "off"  # what is shown was executed by `noiseutils run`
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "attrs_block"]
myst_heading_anchors = 6
myst_heading_slug_func = "book_extension.anchor"
nb_ipywidgets_js = {}  # each live view leaves a picture, and nothing comes from elsewhere

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
maximum_signature_line_length = 80
add_module_names = False

html_theme = "sphinx_book_theme"
html_title = "Does noise help a CNN?"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = [("book.js", {"defer": "defer"})]
html_use_index = False  # the search finds names, too
html_show_search_summary = False  # a page read from disk may not fetch another
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the search field stands above the contents
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "search_as_you_type": True,
}
