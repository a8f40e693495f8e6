"""The embedded model: SmolLM2-135M-Instruct served by llama.cpp in processes of its own, on this machine only."""

from services.embedded.pool import DEFAULT_SPECS, MODEL, EmbeddedPool, EmbeddedUnavailable, ServerSpec, missing

__all__ = ["DEFAULT_SPECS", "MODEL", "EmbeddedPool", "EmbeddedUnavailable", "ServerSpec", "missing"]
