"""What is made of a record, settled once for a file: which column is the prompt, which the id, who converts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from services.batch.files.errors import LineFault, Log, Refused, nearest, no_column, shown
from services.batch.files.opening import Opened
from services.batch.files.own import Own, described
from services.batch.files.templates import (
    PROMPT_NAMES,
    SYSTEM_NAMES,
    Template,
    braced,
    candidates,
    guess,
    no_prompt,
)
from services.batch.files.vendor_formats import IDS, Vendor
from services.batch.types import Choice, Options
from services.params import PARAMS
from services.types import Ask

ID_NAMES = ("id", "custom_id", "recordid")
Make = Callable[[Mapping[str, Any]], Ask | None]


def settle(opened: Opened, base: Mapping[str, Any], log: Log) -> tuple[Options, Make | None]:
    """The options with nothing left open, and what makes an ask of a record; None where the file as a whole leaves open
    what to ask, which is then a fault in ``log``. Raises `Refused` for an id column that is not there."""
    options, columns = opened.options, list(opened.columns)
    known = not opened.loose or bool(opened.samples)
    if options.id_column is None:
        names = ID_NAMES if opened.shape == "own" else (IDS[opened.shape].lower(),)
        options = replace(options, id_column=guess(columns, names))
    elif options.id_column not in columns and known:
        near = nearest(options.id_column, columns)
        raise Refused(
            "unknown_column",
            f"{no_column(options.id_column, columns)} Choose the column of the ids.",
            choices=[Choice(f"Use “{shown(one, 40)}” as the id", replace(options, id_column=one)) for one in near],
        )
    if opened.shape != "own":
        return options, Vendor(opened.shape, base, log, options.only_model)
    if options.prompt is None:
        found = guess(columns, PROMPT_NAMES)
        talks = any("messages" in one for one in opened.samples) or "messages" in columns
        if found is not None:
            options = replace(options, prompt=braced(found))
        elif not talks and known:
            alone = len(opened.samples) == 1
            for one in candidates(columns, options.id_column):
                log.offer(Choice(f"Use column “{shown(one, 40)}” as the prompt", replace(options, prompt=braced(one))))
            said = no_prompt(columns)
            inside = [name for name, value in opened.samples[0].items() if isinstance(value, list)] if alone else []
            if inside:
                said += f" If the list '{shown(inside[0], 40)}' holds the records, save that list as the file."
            log.add(None, LineFault("no_prompt", said, field="prompt"))
            return options, None
    if options.system is None and (found := guess(columns, SYSTEM_NAMES)) is not None:
        options = replace(options, system=braced(found))
    prompt = None if options.prompt is None else Template(options.prompt, columns)
    system = Template(options.system, columns) if options.system else None
    if known and not _whole(opened, options, columns, log, prompt, system):
        return options, None
    if not opened.loose:
        used = {*(prompt.columns if prompt else ()), *(system.columns if system else ())}
        if unused := [name for name in columns if name in PARAMS and name not in used]:
            log.notice(described(unused))
    return options, Own(prompt, system, base, log, loose=opened.loose, own_system=options.system != "")


def _whole(
    opened: Opened, options: Options, columns: list[str], log: Log, prompt: Template | None, system: Template | None
) -> bool:
    """Whether the templates can be filled from this file at all; what is missing is a fault of the whole file."""
    good = True
    if opened.samples and all("messages" in one for one in opened.samples):
        return good  # the templates are not used
    for name, template in (("prompt", prompt), ("system", system)):
        if template is None:
            continue
        text = getattr(options, name)
        if name == "prompt" and not text.strip():
            said = f"The template for the prompt is empty. {no_prompt(columns)}"
            log.add(None, LineFault("no_prompt", said, field=name))
            good = False
        elif name == "prompt" and not template.columns:
            log.notice("The template uses no column: every record asks the same.")
        for wanted in template.unknown(columns):
            good = False
            for near in nearest(wanted, columns):
                other = text.replace(braced(wanted), braced(near))
                if other != text:
                    log.offer(
                        Choice(
                            f"Use “{shown(near, 40)}” for {braced(shown(wanted, 40))}",
                            replace(options, **{name: other}),
                        )
                    )
            said = f"{no_column(wanted, columns)} The {name} template uses it; correct the template or the file."
            log.add(None, LineFault("unknown_column", said, field=name, found=braced(shown(wanted, 40))))
    return good
