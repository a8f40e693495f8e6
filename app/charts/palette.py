"""One colour per deployment, everywhere, for ever: chosen by the slot stored on its row, never by sort order.

The eight colours of each theme are tuned for colour blindness (design.md, section 5). From the ninth slot on they come
round again with another dash and another shape, so that no two deployments look alike in a chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from services.types import Deployment

if TYPE_CHECKING:
    import altair as alt

Theme = Literal["light", "dark"]

LIGHT = ("#0450B9", "#E37300", "#008246", "#C56893", "#302073", "#624500", "#3FA3DC", "#5A1A1A")
DARK = ("#4984CA", "#F16A29", "#12CC8B", "#F7A8DC", "#8B65FE", "#F6E950", "#DEFFE2", "#B0457B")
DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3))
SHAPES = ("circle", "square", "triangle-up", "diamond")

# Cost drivers share one hue in lightness steps, apart from the deployments' colours.
DRIVERS_LIGHT = ("#2f3e46", "#52676f", "#7b9199", "#a8bac0", "#d3dde0")
DRIVERS_DARK = ("#e3ebee", "#b7c7cd", "#8aa0a8", "#617780", "#43545b")


def colors(theme: Theme) -> tuple[str, ...]:
    """The eight colours of a theme, as hex strings."""
    return DARK if theme == "dark" else LIGHT


def color(slot: int, theme: Theme = "light") -> str:
    """Hex colour of a slot (0 or above; the ninth slot takes the first colour again)."""
    palette = colors(theme)
    return palette[slot % len(palette)]


def dash(slot: int) -> list[int]:
    """Stroke dash of a slot: solid for the first eight, another pattern for each further round."""
    return list(DASHES[slot // len(LIGHT) % len(DASHES)])


def shape(slot: int) -> str:
    """Point shape of a slot: circles for the first eight, another shape for each further round."""
    return SHAPES[slot // len(LIGHT) % len(SHAPES)]


def scale(deployments: Sequence[Deployment], theme: Theme = "light") -> alt.Scale:
    """Altair colour scale whose domain is the deployments' ids. Give ids, not names, to the colour channel."""
    import altair as alt

    return alt.Scale(domain=[d.id for d in deployments], range=[color(d.color_slot, theme) for d in deployments])


def dash_scale(deployments: Sequence[Deployment]) -> alt.Scale:
    """Altair stroke-dash scale over the same domain as `scale`."""
    import altair as alt

    return alt.Scale(domain=[d.id for d in deployments], range=[dash(d.color_slot) for d in deployments])


def shape_scale(deployments: Sequence[Deployment]) -> alt.Scale:
    """Altair point-shape scale over the same domain as `scale`."""
    import altair as alt

    return alt.Scale(domain=[d.id for d in deployments], range=[shape(d.color_slot) for d in deployments])
