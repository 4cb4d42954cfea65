"""The command `soundstage`: it parses, calls one function, and turns errors into messages and exit codes."""

from __future__ import annotations

import io
import sys
from importlib.metadata import entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from .commands import animate, calibrate, doctor, init, model, plan, review, stages, synth
from .errors import SoundstageError

_CANCELLED = 130
_EPILOG = (
    "Exit codes: 0 done; 1 refused for another reason, or doctor misses something; 2 configuration or arguments; "
    "3 the promotion gate said no; 4 media, manifests or shards; 5 a data contract failed; "
    "6 a training process failed; 7 training was asked to stop and can go on; 130 cancelled."
)


class _Commands(TyperGroup):
    """Commands whose errors, made for a reader, end as a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SoundstageError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as interrupt:
            typer.echo("cancelled", err=True)
            raise typer.Exit(_CANCELLED) from interrupt


def build() -> typer.Typer:
    """The application with all commands, those of rooms above this package too."""
    app = typer.Typer(
        cls=_Commands,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        epilog=_EPILOG,
        help="Train audio-synchronised visual animation: from raw videos with sound to a promoted model.",
    )
    for module in (init, synth, stages, review, calibrate, model, plan, animate, doctor):
        module.register(app)
    for entry in entry_points(group="soundstage.commands"):
        entry.load()(app)
    return app


def main() -> None:
    """Entry point of the installed command."""
    # Output that is piped would else arrive in blocks, out of order with what training processes print.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    build()()


if __name__ == "__main__":
    main()
