"""The pages, in the order of the sidebar, and the ways from one to another."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from services.paths import ROOT

PAGES = ROOT / "pages"


def page_file(name: str) -> Path:
    """The file of a page, as `st.switch_page` and `st.page_link` take it."""
    return PAGES / f"{name}.py"


def sections() -> dict[str, list[st.Page]]:
    """The pages by section of the sidebar; the empty section comes first and has no heading."""
    return {
        "": [
            st.Page(
                page_file("playground"),
                title="Playground",
                icon=":material/compare_arrows:",
                default=True,
                help="Send one prompt to several deployments and watch time, tokens and cost side by side.",
            ),
            st.Page(
                page_file("caching"),
                title="Prompt caching",
                icon=":material/cached:",
                help="Send one long prompt several times: first token cold and warm, tokens, cost, when it pays.",
            ),
            st.Page(
                page_file("batch"),
                title="Batch",
                icon=":material/dynamic_form:",
                help="Send a file of prompts: checked before, at batch prices, every line answered or accounted for.",
            ),
            st.Page(
                page_file("runs"),
                title="Runs",
                icon=":material/history:",
                help="Every run that was recorded: search, reopen, star, tag, export and delete.",
            ),
        ],
        "See": [
            st.Page(
                page_file("history"),
                title="History",
                icon=":material/monitoring:",
                help="Latency, throughput and cost over time, from every recorded call.",
            ),
            st.Page(
                page_file("calculator"),
                title="Calculator",
                icon=":material/calculate:",
                help="Which deployment for a workload, what it costs, and what would have to change for another.",
            ),
        ],
        "Set up": [
            st.Page(
                page_file("deployments"),
                title="Deployments",
                icon=":material/dns:",
                help="The ways to reach a model: add one, test its connection, switch it on or off.",
            ),
            st.Page(
                page_file("prices"),
                title="Prices",
                icon=":material/sell:",
                help="What every deployment costs, where its price is from, and what changed since calls were made.",
            ),
            st.Page(
                page_file("capacity"),
                title="AWS capacity",
                icon=":material/cloud:",
                help="What runs by the hour in an AWS account, what it costs, and how it becomes a deployment.",
            ),
        ],
    }


def open_run(run_id: str) -> None:
    """Go to the playground with a run open. Ends the script run that calls it."""
    st.switch_page(page_file("playground"), query_params={"run": run_id})


def open_batch(batch_id: str) -> None:
    """Go to a batch. Ends the script run that calls it."""
    st.switch_page(page_file("batch"), query_params={"batch": batch_id})
