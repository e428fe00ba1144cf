"""`python -m pipeline draw`: the found network, and the course of alpha, as pictures for a paper or a slide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.options import HERE, WorkspaceOption

drawing_app = typer.Typer()


@drawing_app.command("draw")
def draw(
    output: Annotated[Path, typer.Option(help="Where to write the network (SVG).")] = Path("network.svg"),
    dropped: Annotated[bool, typer.Option("--dropped", help="Show the edges that were dropped, faint.")] = False,
    course: Annotated[Path | None, typer.Option(help="Where to write the course of alpha (SVG).")] = None,
    line: Annotated[
        str | None, typer.Option(help="Draw this line of architecture, not the one that the workspace found.")
    ] = None,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Draw the architecture in the workspace, or a line of text, with the field names of the log that params name."""
    from components.autopi.architecture import Architecture, FoundArchitecture
    from components.autopi.drawing import alpha_course, draw, draw_with_dropped
    from components.errors import ConfigError
    from pipeline.params import read_settings
    from pipeline.run import Workspace

    place = Workspace(workspace.absolute())
    names = read_settings(place.root).request().schema.field_names
    found = None if line is not None else place.read("architecture", FoundArchitecture)
    architecture = Architecture.from_text(line or "", "--line") if found is None else found.architecture
    if architecture.num_fields != len(names):
        raise ConfigError(
            f"draw: the architecture has {architecture.num_fields} fields, the log that params.yaml names has {len(names)}; "
            "set `log` to the one that it was found on"
        )
    output.write_text((draw_with_dropped if dropped else draw)(architecture, names), encoding="utf-8")
    print(output)
    if course is not None:
        if found is None:
            raise ConfigError("draw --course: a line of text has no course of alpha; leave --line out")
        course.write_text(alpha_course(found), encoding="utf-8")
        print(course)
