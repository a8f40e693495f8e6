"""The build backend of this project: it builds nothing and says how Inference Lab is started instead.

A wheel would bring `app`, `db`, `pages` and `services` as names of their own into an environment, would keep its data
beside installed packages, and would compile llama.cpp. So none is offered: the folder is the installation.
"""

from __future__ import annotations

from typing import NoReturn

SENTENCE = (
    "Inference Lab is not a package to install: keep the folder as it is and start it there with `make run` "
    "(or `docker compose up`). Nothing was built or installed."
)


def _refuse(*_arguments: object, **_options: object) -> NoReturn:
    raise SystemExit(SENTENCE)


# The names that PEP 517 and PEP 660 call; each tool asks for another of them first.
build_wheel = build_sdist = build_editable = _refuse
get_requires_for_build_wheel = get_requires_for_build_sdist = get_requires_for_build_editable = _refuse
prepare_metadata_for_build_wheel = prepare_metadata_for_build_editable = _refuse
