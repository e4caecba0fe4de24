"""`python -m bench [TABLE]`: makes one table, or all of them."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False, help="Measures what a change of certificate costs on real SIP edges.")


@app.callback()
def bench() -> None:
    """Tables of measurements on real SIP edges; without a name, all of them."""


if __name__ == "__main__":
    app()
