"""The code version of a stage: a hash of the source it can reach by imports, and of the libraries that shape bytes."""

from __future__ import annotations

import ast
from functools import cache
from importlib import metadata
from pathlib import Path

from .files import sha256_text

PACKAGE = "soundstage"
_LIBRARIES = (
    *("av", "deepspeed", "diffusers", "numpy", "pillow", "pyarrow", "safetensors", "scipy"),
    *("torch", "torchaudio", "torchvision", "transformers", "webdataset"),
)


@cache
def code_version(module: str) -> str:
    """Hash over `module`, every module of this package that it imports, directly or not, and library versions.

    Imports inside functions count: a stage imports its heavy parts late.
    """
    libraries = [f"{name}={_version(name)}" for name in _LIBRARIES]
    sources = [f"{name}\n{_source(name).read_text()}" for name in sorted(_closure(module))]
    return sha256_text("\n".join(libraries + sources))[:16]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _closure(module: str) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_imports(name))
    return found


@cache
def _imports(module: str) -> frozenset[str]:
    source = _source(module)
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{anchor}.{base}" if base else anchor
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(name for name in names if name.split(".")[0] == PACKAGE and _exists(name))


def _root() -> Path:
    return Path(__file__).resolve().parents[1]


def _candidates(module: str) -> tuple[Path, Path]:
    path = _root().joinpath(*module.split(".")[1:])
    return path.with_suffix(".py") if module != PACKAGE else path / "__init__.py", path / "__init__.py"


def _exists(module: str) -> bool:
    return any(path.is_file() for path in _candidates(module))


def _source(module: str) -> Path:
    return next(path for path in _candidates(module) if path.is_file())
