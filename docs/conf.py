"""How the documentation is built: `make docs`."""

from pathlib import Path

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

import eyebright
from eyebright.files import write_atomically
from eyebright.inspection.style import encode

project = "eyebright"
author = "the eyebright authors"
release = eyebright.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
html_theme = "furo"
exclude_patterns = ["_build", "lab"]
suppress_warnings = ["myst.header", "myst.xref_missing", "config.cache"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
default_role = "code"


def draw(block, variables, settings):
    """The figures that a block of a page of the lab has made, as pictures below it."""
    drawn = variables.setdefault("drawn", set())
    paths = []
    for value in list(variables["example_globals"].values()):
        if isinstance(value, Figure) and id(value) not in drawn:
            drawn.add(id(value))
            paths.append(next(variables["image_path_iterator"]))
            write_atomically(Path(paths[-1]), [encode(value, "png", dots_per_inch=90)])
    return figure_rst(paths, settings["src_dir"])


sphinx_gallery_conf = {
    "examples_dirs": "lab",
    "gallery_dirs": "lab_pages",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (draw,),
    "reset_modules": (),
    "download_all_examples": False,
    "min_reported_time": 1e9,
    "show_signature": False,
    "write_computation_times": False,
    "only_warn_on_example_error": False,
    "abort_on_example_error": True,
}
