from library.conftest import (  # noqa: F401
    default_term,
    environment,
    hpc,
    no_signal_handler_left,
    yaml_app,
    zen_app,
)  # fmt: skip
