"""The section [teams] of deployments.toml."""

from __future__ import annotations

import pytest

from services.deployments.config import parse
from services.deployments.toml_table import ConfigError, Source


def test_teams_are_read_and_without_the_section_there_are_none() -> None:
    config = parse(Source("deployments.toml", '[teams]\nsearch = ["ada@example.com", "bob"]\n"our team" = []\n'))
    assert config.teams == {"search": ("ada@example.com", "bob"), "our team": ()}
    assert parse(Source("deployments.toml", "")).teams == {}


def test_a_team_that_is_no_list_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"line 2.*search"):
        parse(Source("deployments.toml", '[teams]\nsearch = "ada@example.com"\n'))
