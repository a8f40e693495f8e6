"""The deployments as a worker sees them: the engine declares, a worker only reads."""

from __future__ import annotations

import asyncio

from services.deployments import config
from services.deployments.registry import Registry
from services.deployments.toml_table import changed_at


class WorkerRegistry(Registry):
    """What the database lists, with the rules (keys, hosts, privacy) of the worker's own deployments file."""

    async def refresh(self) -> None:
        """Read the rules again if the file changed, and the deployments in any case. Writes nothing."""
        stamp = changed_at(self.file) if self.file else None
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self.config = config.load(self.file) if self.file and stamp is not None else config.Config()
                self.trouble = None
            except config.ConfigError as error:
                self.trouble = str(error)
        await asyncio.to_thread(self._load)
