"""From what a bundle was made: data window, digests of the inputs, of the code and of the locked libraries, and seeds.

Stands between `profiling` and `champion` in the data's way: `packing` writes a lineage, `champion` reads it. It holds no
clock time, and of the machine only its kind, since another kind may round otherwise; the commit is known from the registry's tag.
"""

from __future__ import annotations

import ast
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from components.errors import ConfigError, IntegrityError
from components.log import Window
from components.manifest import digest_path, read_guarded_json
from components.splitting import SplitSpan
from components.strict import Strict, parse

LINEAGE = "lineage.json"
FORMAT = 2
_ROOT = Path(__file__).resolve().parents[1]
_LOCK = "requirements.lock"


@dataclass(frozen=True)
class Lineage(Strict):
    """What a bundle was made from.

    format       of this file; another number is another generation of bundles
    log          the log's name, and `window` the part of it that was asked for
    split_rule   how the log was cut, and `spans` the parts: rows, clicks, first and last time in microseconds
    inputs       artifact -> SHA-256 of its content, for what `pack` read
    params       the section of params.yaml that `pack` was given, as JSON text
    code         file below the repository's root -> SHA-256, for the modules that `pack` stands on
    lock_sha256  of requirements.lock: which libraries, each with its hash
    platform     system, processor and Python: "Linux x86_64, CPython 3.11"
    seeds        what `pack` drew at random -> the seed; those of other stages are in params.yaml of the tag's commit
    """

    format: int
    log: str
    window: Window
    split_rule: str
    spans: tuple[SplitSpan, ...]
    inputs: dict[str, str]
    params: str
    code: dict[str, str]
    lock_sha256: str
    platform: str
    seeds: dict[str, int]

    def __post_init__(self) -> None:
        """Refuse another generation: raises ValueError, which `read_lineage` turns into an IntegrityError."""
        if self.format != FORMAT:
            raise ValueError(f"format {self.format}; this code reads format {FORMAT}")

    def span(self, name: str) -> SplitSpan:
        """One part of the split by its name; raises IntegrityError where the lineage does not have it."""
        for span in self.spans:
            if span.name == name:
                return span
        raise IntegrityError(f"{LINEAGE}: has no span '{name}', only {[span.name for span in self.spans]}")


def read_lineage(folder: Path) -> Lineage:
    """Read the lineage of the bundle in `folder`; raises IntegrityError."""
    path = folder / LINEAGE
    return parse(Lineage, read_guarded_json(path), str(path), IntegrityError)


def code_digests(module: str) -> dict[str, str]:
    """Give file -> SHA-256 for a component, every component it imports, directly or through others, their packages
    and what lies in C beside them.

    These are the files that `dvc.yaml` names as the stage's code, so a lineage never tells of code that was not asked.
    """
    waiting, followed = [module], set[Path]()
    while waiting:
        file = _file_of(waiting.pop())
        if file is not None and file not in followed:
            followed.add(file)
            waiting += _imported_components(file)
    packages = {folder / "__init__.py" for file in followed for folder in file.parents if _ROOT in folder.parents}
    in_c = {file for folder in {file.parent for file in packages} for file in folder.glob("*.[ch]")}
    files = sorted(followed | {file for file in packages if file.is_file()} | in_c)
    return {file.relative_to(_ROOT).as_posix(): digest_path(file) for file in files}


def platform_name() -> str:
    """Say on what kind of machine, and in which Python, bytes are the same if all else is."""
    python = f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"
    return f"{platform.system()} {platform.machine()}, {python}"


def lock_digest() -> str:
    """Give the SHA-256 of the lock file; raises ConfigError where it is absent."""
    path = _ROOT / _LOCK
    if not path.is_file():
        raise ConfigError(f"{path}: the file is missing; restore it with `git checkout -- {_LOCK}`")
    return digest_path(path)


def _file_of(name: str) -> Path | None:
    """Find the file of a dotted name, which may end in what the module defines."""
    while name:
        place = _ROOT.joinpath(*name.split("."))
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                return file
        name = name.rpartition(".")[0]
    return None


def _imported_components(file: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] == "components"]
