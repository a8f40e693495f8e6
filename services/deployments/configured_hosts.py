"""The names under which browsers reach the pages, as deployments.toml and the environment configure them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from services import paths
from services.security.hosts import BadHost, Host, configured_host

log = logging.getLogger(__name__)

HOSTS = "LAB_HOSTS"
LOOK_AGAIN_S = 1.0


@dataclass(slots=True)
class ConfiguredHosts:
    """The hosts that ``[access] hosts`` of the deployments file and LAB_HOSTS name at this moment.

    The file is looked at again once a second at most, and read when it has changed. One that cannot be read leaves the
    hosts that were read last; it never adds any.
    """

    file: Callable[[], Path] = paths.deployments_file
    clock: Callable[[], float] = time.monotonic
    _from_file: frozenset[Host] = frozenset()
    _stamp: tuple[str, int, int, int] | None = None
    _next_look: float = -1.0
    _from_environment: tuple[str, frozenset[Host]] = field(default=("", frozenset()))

    def hosts(self) -> frozenset[Host]:
        """Every configured host. Never raises."""
        text = os.environ.get(HOSTS, "")
        if text != self._from_environment[0]:
            self._from_environment = text, frozenset(_listed(text))
        now = self.clock()
        if now >= self._next_look:
            self._next_look = now + LOOK_AGAIN_S
            self._look()
        return self._from_file | self._from_environment[1]

    def _look(self) -> None:
        path = self.file()
        try:
            state = path.stat()
        except FileNotFoundError:
            self._from_file, self._stamp = frozenset(), None
            return
        except OSError as error:
            log.warning("The hosts in %s cannot be read: %s.", path.name, error.strerror or error)
            return
        stamp = (str(path), state.st_mtime_ns, state.st_size, state.st_ino)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        from services.deployments import (
            config,  # only where there is a file: it loads every provider, and the pages start without
        )

        try:
            self._from_file = frozenset(configured_host(name) for name in config.load(path).access.hosts)
        except (config.ConfigError, BadHost) as error:
            log.warning("The hosts under [access] stay as they were: %s", error)


def _listed(text: str) -> Iterable[Host]:
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        try:
            yield configured_host(entry)
        except BadHost as error:
            log.warning("%s: %s", HOSTS, error)
