"""`python -m app.cli`, which `.venv/bin/lab` runs."""

from app.cli import interrupt

# Loading takes a moment, in which somebody may think better of it.
interrupt.while_loading()

from app.cli.main import main  # noqa: E402 - after Ctrl-C is taken care of

main()
