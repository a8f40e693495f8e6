"""The product's mark and its name as drawings: nothing about them is fetched from another host."""

from __future__ import annotations

# Three bars that start together and end apart: the race of the playground.
_BARS = (
    '<rect x="3" y="4" width="11" height="4" rx="1" fill="#0450B9"/>'
    '<rect x="3" y="10" width="18" height="4" rx="1" fill="#E37300"/>'
    '<rect x="3" y="16" width="8" height="4" rx="1" fill="#008246"/>'
)


def icon() -> str:
    """The mark alone, as SVG: the icon of the browser's tab."""
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24">{_BARS}</svg>'


def name(*, dark: bool) -> str:
    """The mark and the product's name, as SVG, for a light or a dark background."""
    ink = "#eeece6" if dark else "#1d1d1b"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="152" height="24" viewBox="0 0 152 24">'
        f'{_BARS}<text x="30" y="17" font-family="system-ui, Roboto, Arial, DejaVu Sans, sans-serif" '
        f'font-size="14" font-weight="600" fill="{ink}">Inference Lab</text></svg>'
    )
