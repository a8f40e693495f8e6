"""A small engine in memory for page tests: it keeps what it is asked and writes real rows to a real SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session, SQLModel
from streamlit.testing.v1 import AppTest

from app import auth as app_session
from app.widgets.text import NOTHING
from db import runs
from db.engine import make_engine, reader
from services.client import EngineDown, EngineError
from services.deployments import config as deployments_config
from services.deployments.registry import DeploymentStatus
from services.runs.spec import ColumnSpec, RunSpec, new_id
from services.security import access
from services.types import Deployment
from tests.pages.fake_aws import Account, Aws
from tests.pages.fake_history import History

ROOT = Path(__file__).resolve().parents[2]
NEEDY = replace(deployments_config.CATALOGUE[0], enabled=True)


def page(path: str = "playground", **query: str) -> AppTest:
    """The app with one page open, not run yet."""
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=30)
    for name, value in query.items():
        at.query_params[name] = value
    if path != "playground":
        at.run()
        at.switch_page(str(ROOT / "pages" / f"{path}.py"))
    return at


def said(at: AppTest) -> str:
    """Everything that the page says in words, without the escapes."""
    parts = [e.value for kind in (at.caption, at.markdown, at.text, at.warning, at.error) for e in kind]
    return "\n".join(str(p) for p in parts).replace("\\", "").replace(NOTHING, "")


def buttons(at: AppTest) -> list[str]:
    """Labels of all buttons."""
    return [b.label.replace("\\", "") for b in at.button]


class Lab:
    """Engine, database and configuration of one test; also the `app.auth.Sources` of the pages."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'lab.sqlite3'}"
        self.writer = make_engine(url)
        SQLModel.metadata.create_all(self.writer)
        self._reader = reader(url)
        self._config = deployments_config.Config()
        self.down = False
        self.listed: list[Deployment] = [
            *deployments_config.embedded_deployments(),
            NEEDY,
            *deployments_config.CATALOGUE[1:],
        ]
        self.embedded: dict[str, dict[str, Any]] = {
            "main": {"state": "ready", "restarts": 0, "url": "http://127.0.0.1:4321"}
        }
        self.asked: list[tuple[Any, ...]] = []
        self.specs: list[RunSpec] = []
        self.living: dict[str, dict[str, Any]] = {}
        self.servers: dict[str, dict[str, Any]] = {}
        self.account = Account()
        self.targets: list[str] = []
        for d in self.listed:
            self.write(
                runs.upsert_deployment,
                deployment_id=d.id,
                spec=d.to_json(),
                origin=d.origin,
                enabled=d.enabled,
            )

    # --- what pages read from ---

    def engine(self, person: app_session.Person) -> Any:
        return Engine(self, person)

    def database(self) -> Any:
        return self._reader

    def config(self) -> deployments_config.Config:
        return self._config

    # --- what tests arrange ---

    def configure(self, **values: Any) -> None:
        """Change the configuration."""
        self._config = replace(self._config, **values)

    def close_doors(self, *senders: str) -> None:
        """Only the listed people may send from now on."""
        self._config = replace(self._config, access=deployments_config.Access("closed", senders, ()))

    def write(self, unit: Any, **values: Any) -> Any:
        with Session(self.writer) as session:
            result = unit(session=session, **values)
            session.commit()
            return result

    def deployment(self, deployment_id: str) -> Deployment:
        return next(d for d in self.listed if d.id == deployment_id)

    def record(
        self,
        prompt: str = "Why is the sky blue?",
        ids: Sequence[str] = ("local-chat", "local-messages"),
        *,
        answers: Sequence[str] = (),
        state: str = "succeeded",
        spec: RunSpec | None = None,
        **run: Any,
    ) -> str:
        """A finished run with one call for each deployment and repetition; returns its id."""
        spec = spec or RunSpec(prompt, tuple(ColumnSpec(i) for i in ids))
        row = run_row(spec) | run
        self.write(runs.insert_run, values=row)
        calls = [
            call_row(row, self.deployment(d), column, repetition)
            | finished(answers[column] if answers else f"Answer of {d}.", column, repetition, state)
            for column, d in enumerate(ids)
            for repetition in range(1, row["repetitions"] + 1)
        ]
        self.write(runs.insert_calls, rows=calls)
        return str(row["id"])


class Engine:
    """The part of `services.client.EngineClient` that pages use; it checks the role like the real one."""

    def __init__(self, lab: Lab, person: app_session.Person) -> None:
        self.lab, self.person = lab, person

    def _may(self, action: access.Action) -> None:
        self._up()
        try:
            access.require(self.person.role, action)
        except access.Denied as error:
            raise EngineError(str(error)) from error

    def _up(self) -> None:
        if self.lab.down:
            raise EngineDown("The engine does not answer; it is started again within a few seconds.")

    def health(self) -> dict[str, Any]:
        self._up()
        return {"ok": True, "embedded": self.lab.embedded, "db_trouble": None, "file_trouble": None}

    def start_run(self, spec: RunSpec) -> str:
        self._may("send")
        try:
            spec.checked()
        except ValueError as error:
            raise EngineError(str(error)) from error
        self.lab.specs.append(spec)
        return self.lab.record(spec.render(), [c.deployment_id for c in spec.columns], spec=spec)

    def live(self, run_id: str) -> dict[str, Any] | None:
        self._up()
        return self.lab.living.get(run_id)

    def server(self, deployment_id: str) -> dict[str, Any]:
        self._may("look")
        silent = {"supported": True, "facts": None, "facts_trouble": "It was not asked.", "gauge": None}
        return silent | {"trouble": "It was not asked."} | self.lab.servers.get(deployment_id, {})

    def deployments(self) -> list[DeploymentStatus]:
        self._up()
        return [self._status(d) for d in self.lab.listed]

    def _status(self, d: Deployment) -> DeploymentStatus:
        needs = "disabled" if not d.enabled else f"needs {d.key_env}" if d.key_env else None
        return DeploymentStatus(d, needs is None, needs)

    def save_deployment(self, d: Deployment) -> Deployment:
        self._may("deploy")
        saved = replace(d, id=d.id or deployments_config.slug(d.name, {x.id for x in self.lab.listed}), origin="page")
        self.lab.listed = [x for x in self.lab.listed if x.id != saved.id] + [saved]
        return saved

    def aws(self, profile: str | None = None, region: str | None = None) -> Aws:
        self._up()
        return Aws(self.lab.account, self.person.role, profile, region)

    @property
    def history(self) -> History:
        return History(self.lab, self._may, self.person.name)

    def set_enabled(self, deployment_id: str, on: bool) -> None:
        self._may("deploy")
        self.lab.listed = [replace(d, enabled=on) if d.id == deployment_id else d for d in self.lab.listed]

    def enable_catalogue(self, provider: str, on: bool) -> int:
        self._may("deploy")
        self.lab.asked.append(("catalogue", provider, on))
        self.lab.listed = [
            replace(d, enabled=on) if d.origin == "catalogue" and d.kind == provider else d for d in self.lab.listed
        ]
        return 1

    def __getattr__(self, name: str) -> Any:
        """stop, retry, annotate, delete_runs, vote, remove_deployment, test_deployment, restart_embedded."""
        actions = {
            "stop": "send",
            "retry": "send",
            "annotate": "annotate",
            "delete_runs": "delete",
            "vote": "vote",
            "remove_deployment": "deploy",
            "test_deployment": "send",
            "restart_embedded": "send",
        }

        def ask(*args: Any, **kwargs: Any) -> Any:
            self._may(actions[name])  # type: ignore[arg-type]
            self.lab.asked.append((name, *args, *kwargs.items()))
            if name == "annotate":
                self.lab.write(runs.annotate_run, run_id=args[0], **kwargs)
            elif name == "delete_runs":
                self.lab.write(runs.delete_runs, run_ids=args[0])
            elif name == "vote":
                values = {"id": new_id(), "run_id": args[0], "person": self.person.name, **args[1]}
                self.lab.write(runs.insert_vote, values=values)

        if name not in actions:
            raise AttributeError(name)
        return ask


def run_row(spec: RunSpec) -> dict[str, Any]:
    """A run's row as the engine writes it."""
    return {
        "id": new_id(),
        "created_at": datetime.now(UTC),
        "person": "local",
        "source": spec.source,
        "prompt": spec.render(),
        "system": spec.system,
        "template": spec.prompt,
        "variables": dict(spec.variables),
        "params": dict(spec.params),
        "columns": spec.to_json()["columns"],
        "attachments": [{"name": a.name, "chars": len(a.text), "text": a.text} for a in spec.attachments],
        "start_mode": spec.start,
        "stagger_s": spec.stagger_s,
        "repetitions": spec.repetitions,
        "blind": spec.blind,
        "parent_run_id": spec.parent_run_id,
        "starred": False,
        "tags": [],
        "text_stored": True,
        "n_calls": len(spec.columns) * spec.repetitions,
    }


def call_row(run: dict[str, Any], d: Deployment, column: int, repetition: int) -> dict[str, Any]:
    """A call's row before it is sent."""
    ask = {"messages": [{"role": "user", "text": run["prompt"]}], "system": None, "params": {}}
    return {
        "id": new_id(),
        "run_id": run["id"],
        "column_no": column,
        "repetition": repetition,
        "attempt_no": 1,
        "deployment_id": d.id,
        "deployment": d.to_json(),
        "kind": d.kind,
        "model": d.model,
        "wire": d.wire,
        "source": run["source"],
        "person": run["person"],
        "state": "running",
        "created_at": run["created_at"],
        "sent_params": {},
        "dropped_params": {},
        "request": {
            "ask": ask,
            "method": "POST",
            "url": "http://127.0.0.1:1/v1/chat/completions",
            "headers": {},
            "auth": None,
            "body": {"model": d.model},
            "key_env": d.key_env,
        },
    }


def finished(answer: str, column: int, repetition: int, state: str) -> dict[str, Any]:
    """What the end of a call adds to its row: plausible figures that differ by column."""
    ok = state == "succeeded"
    return {
        "state": state,
        "outcome": "ok" if ok else "http_error",
        "answer": answer if ok else None,
        "message": None if ok else "The service answered 500.",
        "ended_at": datetime.now(UTC),
        "ttft_ms": 100.0 + 50 * column + repetition,
        "ttfat_ms": 100.0 + 50 * column + repetition,
        "ttlt_ms": 900.0 + 100 * column,
        "end_ms": 950.0 + 100 * column,
        "decode_tps": 90.0 - 10 * column,
        "e2e_tps": 70.0 - 10 * column,
        "n_deltas": 60,
        "uncached_input": 20,
        "answer_output": 60,
        "usage_source": "provider",
        "cost_state": "free",
        "cost_nanousd": 0,
        "waited_ms": 0.0,
        "self_lag_ms": 0.2,
    }
