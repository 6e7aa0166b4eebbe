"""Fixtures of the library's tests, which these need too."""

from library.conftest import (  # noqa: F401
    default_term,
    environment,
    hpc,
    no_signal_handler_left,
    yaml_app,
    zen_app,
)
