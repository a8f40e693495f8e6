"""The Prices page's figures: what is missing and why, and what the same calls would cost today."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from app.prices.page import sentence, to_csv
from db.history import PriceUse
from db.models import DeploymentRow
from db.rollups import COUNTS
from services import caching
from services.call_record import cost_of, from_row
from services.pricing import overview as pricing_overview
from services.pricing import price as pricing_price
from services.runs import view
from services.types import Aws, Deployment, PriceRef

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
FIRST, LAST = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
OWN = Deployment(
    id="own",
    name="Own",
    kind="openai",
    model="m",
    base_url="https://h.example",
    price=PriceRef(override={"input": "2", "output": "10"}),
)
RATES = {"input": "3", "cache_read": "3", "cache_write_5m": "3", "cache_write_1h": "3", "output": "15"}


def use(price: dict[str, Any] | None, *, band: int = 0, n: int = 4, nanousd: int = 0, **counts: int) -> PriceUse:
    text = None if price is None else json.dumps(price)
    whole = dict.fromkeys(COUNTS, 0) | counts
    return PriceUse("own", text, band, n, n, 0, nanousd, FIRST, LAST, whole)


def row(rates: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    return {"source": "deployment", "date": "2026-10-01", "rates": rates or RATES, "context": {}} | more


def changed(d: Deployment, *uses: PriceUse, at: tuple[int, ...] = ()) -> list[pricing_overview.Change]:
    return pricing_overview.changes({"own": d}, uses, at, NOW)


def test_a_cheaper_price_today_is_told_with_what_the_same_tokens_would_cost() -> None:
    (one,) = changed(OWN, use(row(), n=120, nanousd=3_600_000_000, uncached_input=200_000, answer_output=200_000))
    assert (one.nanousd, one.today_nanousd, one.difference) == (3_600_000_000, 2_400_000_000, -1_200_000_000)
    assert sentence(one) == "was $3 / $15 until 1 Nov 2026, today $2 / $10: 120 calls, −$1.20 if re-priced"


def test_the_same_price_from_another_source_or_day_is_no_change() -> None:
    same = row({name: rate if name == "output" else "2.0" for name, rate in (RATES | {"output": "10.00"}).items()})
    assert changed(OWN, use(same), use(same | {"source": "list", "date": "2020-01-01"})) == []


DAMAGED = (
    "{",
    '"text"',
    "[1]",
    "5",
    "{}",
    '{"source": "x"}',
    '{"source": "x", "date": "d", "rates": "abc"}',
    '{"source": "x", "date": "d", "rates": {"input": "abc"}}',
    '{"source": "x", "date": "d", "rates": {"input": null}}',
    '{"source": "x", "date": "d", "rates": {"input": "NaN"}}',
    '{"source": "x", "date": "d", "per_hour": []}',
    '{"source": "x", "date": "d", "per_hour": "-1"}',
    '{"source": "x", "date": "d", "per_hour": "1e999"}',
    '{"source": "x", "date": "d", "tiers": [5]}',
    '{"source": "x", "date": "d", "tiers": [{"above": 1e400}]}',
    '{"source": "x", "date": "d", "context": [1]}',
    '{"source": "x", "date": "d", "count": "many"}',
    "[" * 100_000,
)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_price_row_is_told_as_not_readable_with_the_cost_as_recorded(text: str) -> None:
    uses = [replace(use(None, n=3, nanousd=3_600_000_000), price=text), use(None, n=1)]
    assert pricing_overview.bounds(uses, [])
    damaged, without = changed(OWN, *uses)
    assert (damaged.damaged, damaged.nanousd, damaged.difference, without.damaged) == (True, 3_600_000_000, None, False)
    assert sentence(damaged) == "price not readable until 1 Nov 2026, today $2 / $10: 3 calls, $3.60 as recorded"
    assert "was no price" in sentence(without)


@pytest.mark.parametrize("stored", [json.loads(text) for text in DAMAGED if len(text) < 99 and text != "{"])
def test_a_call_with_a_damaged_price_row_keeps_its_cost(stored: Any) -> None:
    call = {
        "price": stored,
        "cost_state": "exact",
        "cost_nanousd": 10**9,
        "uncached_input": 5,
        "answer_output": 5,
        "end_ms": 900.0,
        "state": "succeeded",
    }
    assert view.cost_words(cost_of(call)) == ("", "$1.00")
    assert view.cost_words(cost_of(call | {"cost_state": "by_the_hour"})) == ("", "by the hour")
    assert view.full_use(from_row(call | {"cost_state": "by_the_hour"})) is None
    assert caching.cost_without(call) is None
    assert caching.prices_of([call], OWN, ["5m"]) is None
    assert pricing_price.damaged(stored) and not pricing_price.damaged(None)


def test_rows_that_charge_alike_are_one_change() -> None:
    found = changed(OWN, use(row()), use(row(date="2026-10-02"), n=3), use(row(RATES | {"output": "16"}), n=1))
    assert sorted(one.n for one in found) == [1, 7]


def test_each_length_is_priced_anew_at_its_own_rates() -> None:
    gpt = replace(OWN, model="gpt-6.1-sol", price=PriceRef(provider="openai"))
    uses = [use(row(), uncached_input=1_000_000), use(row(), band=1, uncached_input=1_000_000)]
    (one,) = changed(gpt, *uses, at=(272_000,))
    assert one.today_nanousd == 2_000_000_000 + 4_000_000_000


def test_calls_of_a_tier_are_compared_with_todays_price_of_that_tier() -> None:
    gpt = replace(OWN, model="gpt-6.1-sol", price=PriceRef(provider="openai"))
    flex = row(
        {"input": "1", "cache_read": "0.05", "cache_write_5m": "1.25", "cache_write_1h": "1.25", "output": "5"},
        context={"service_tier": "flex"},
    )
    (one,) = changed(gpt, use(flex, uncached_input=1_000_000))
    assert one.now is not None and one.now.rates is not None and one.now.rates["output"] == "5"
    assert one.today_nanousd == 1_000_000_000


def test_calls_without_a_price_then_say_what_they_would_cost_today_and_not_a_difference() -> None:
    (one,) = changed(OWN, use(None, uncached_input=1_000_000))
    assert (one.nanousd, one.today_nanousd, one.difference) == (None, 2_000_000_000, None)
    assert sentence(one) == "was no price until 1 Nov 2026, today $2 / $10: 4 calls, $2.00 at today's price"


def test_a_price_that_is_gone_today_has_no_money_to_compare() -> None:
    (one,) = changed(replace(OWN, price=PriceRef()), use(row(), nanousd=5))
    assert (one.now, one.today_nanousd, one.difference) == (None, None, None)
    assert sentence(one) == "was $3 / $15 until 1 Nov 2026, today no price: 4 calls"


def test_an_hourly_price_is_compared_but_calls_are_not_priced_by_it() -> None:
    rented = replace(OWN, price=PriceRef(per_hour="2", count=2))
    (one,) = changed(rented, use(row(per_hour="3", count=2) | {"rates": None}, uncached_input=5))
    assert sentence(one) == "was $3 an hour until 1 Nov 2026, today $4 an hour: 4 calls"


def test_calls_that_were_never_billed_are_no_change() -> None:
    assert changed(OWN, replace(use(row()), n_billed=0)) == []


def test_two_prices_with_the_same_input_and_output_are_told_apart_by_the_rest() -> None:
    cached = replace(OWN, price=PriceRef(override={"input": "3", "output": "15", "cache_read": "0.3"}))
    (one,) = changed(cached, use(row(), cache_read=1_000_000, nanousd=3_000_000_000))
    assert sentence(one).startswith("was $3 / $15, cache read $3 until 1 Nov 2026, today $3 / $15, cache read $0.30: ")
    assert one.difference == -2_700_000_000


def test_bounds_hold_every_length_at_which_a_stored_or_a_present_price_changes() -> None:
    tiered = row(tiers=[{"above": 33_000, "rates": RATES}])
    assert 33_000 in pricing_overview.bounds([use(tiered)], [None])
    assert pricing_overview.bounds([use(row())], [None]) == pricing_overview.USUAL_BOUNDS


@pytest.mark.parametrize(
    ("d", "words"),
    [
        (replace(OWN, price=PriceRef()), "It names no price"),
        (replace(OWN, price=PriceRef(provider="openai", model="gpt-9")), "No list names gpt-9 exactly"),
        (replace(OWN, price=PriceRef(provider="aws"), model="x.y", region="eu-west-1"), "names x.y in eu-west-1"),
        (
            replace(
                OWN, price=PriceRef(provider="aws"), model="amazon.nova-pro-v1:0", aws=Aws(service_tier="reserved")
            ),
            "for service tier reserved",
        ),
        (
            replace(OWN, price=PriceRef(provider="aws"), model="arn:aws:bedrock:us-east-1:1:provisioned-model/abc"),
            "cannot tell which model this ARN stands for",
        ),
        (replace(OWN, price=PriceRef(instance="ml.g5.xlarge"), region="eu-west-1"), "ml.g5.xlarge in eu-west-1"),
    ],
)
def test_a_missing_price_says_why_and_what_to_do(d: Deployment, words: str) -> None:
    found = pricing_overview.line(d, NOW)
    assert found.price is None
    assert words in found.missing and "on the Deployments page" in found.missing


def test_deployments_that_are_off_are_listed_only_when_they_were_called() -> None:
    off, other = replace(OWN, enabled=False), replace(OWN, id="other", enabled=False)
    assert [line.deployment.id for line in pricing_overview.lines([off, other], [use(row(), n=7)], NOW)] == ["own"]


def test_a_deployment_that_is_only_in_the_records_keeps_its_colour_and_is_off() -> None:
    spec = {"id": "gone", "name": "Gone", "kind": "openai", "model": "m", "base_url": "https://h.example"}
    rows = [
        DeploymentRow(id="gone", spec=spec, color_slot=5, enabled=True, archived=True),
        DeploymentRow(id="odd", spec={"name": "?"}, color_slot=6, enabled=True, archived=True),
    ]
    own, gone = pricing_overview.together([OWN], rows)
    assert (own.id, gone.id, gone.color_slot, gone.enabled) == ("own", "gone", 5, False)


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("3", "$3"),
        ("2.5", "$2.50"),
        ("0.0375", "$0.0375"),
        ("0.10", "$0.10"),
        ("1234", "$1,234"),
        ("0", "$0"),
        ("1E-2", "$0.01"),
    ],
)
def test_a_listed_price_is_shown_in_full_without_needless_zeros(amount: str, words: str) -> None:
    assert pricing_overview.dollars(amount) == words


def test_the_export_has_every_amount_and_no_formula_in_a_name() -> None:
    d = replace(
        OWN,
        name="=1+1",
        kind="bedrock",
        model="global.anthropic.claude-sonnet-4-5-20250929-v1:0",
        price=PriceRef(provider="aws"),
    )
    lines = [pricing_overview.line(d, NOW, 3, 54_399_000), pricing_overview.line(replace(OWN, price=PriceRef()), NOW)]
    first, second = csv.DictReader(io.StringIO(to_csv(lines)))
    assert first["deployment"] == "'=1+1"
    assert (first["input_usd_per_1m"], first["output_usd_per_1m"], first["spent_usd"]) == ("3", "15", "0.054399000")
    assert (first["batch_input_usd_per_1m"], first["batch_output_usd_per_1m"]) == ("1.5", "7.5")
    assert (second["source"], second["input_usd_per_1m"]) == ("no price", "")
