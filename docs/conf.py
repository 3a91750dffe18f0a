"""How the documentation is built: `make docs`."""

import eyebright

project = "eyebright"
author = "the eyebright authors"
release = eyebright.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
exclude_patterns = ["_build"]
suppress_warnings = ["myst.header", "myst.xref_missing"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
default_role = "code"
