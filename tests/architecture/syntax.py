"""What the source files import and call, read from their syntax trees without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edge", "devices", "training", "quantization")


@dataclass(frozen=True)
class Import:
    """One imported module. `lazy` when it stands inside a function, `typing` when only a type checker sees it."""

    importer: str
    module: str
    line: int
    lazy: bool
    typing: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.module}"


@cache
def files(*packages: str) -> tuple[Path, ...]:
    """The Python files of some packages, or of all."""
    return tuple(sorted(path for package in packages or PACKAGES for path in (ROOT / package).rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    """The dotted name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(module: str, *packages: str) -> bool:
    """Whether a module is one of some packages, or inside one."""
    return any(module == package or module.startswith(package + ".") for package in packages)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _targets(node: ast.AST, package: str) -> list[str]:
    """The modules that one node imports; a name imported from a package of ours may itself be a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
        submodules = [
            f"{base}.{alias.name}"
            for alias in node.names
            if (ROOT / base.replace(".", "/") / f"{alias.name}.py").is_file()
            or (ROOT / base.replace(".", "/") / alias.name).is_dir()
        ]
        return submodules or [base]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
            return [node.args[0].value.split(":")[0]]
    return []


def imports(path: Path) -> Iterator[Import]:
    """Every import of one file, static or by a constant string, at any depth."""
    importer = name_of(path)
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]

    def visit(node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
        for module in _targets(node, package):
            yield Import(importer, module, getattr(node, "lineno", 0), lazy, typing)
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for child in node.body:
                yield from visit(child, lazy, True)
            for child in node.orelse:
                yield from visit(child, lazy, typing)
            return
        inside = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside, typing)

    yield from visit(tree(path), False, False)


def called_name(node: ast.Call) -> str:
    """The last name of what is called: `resize` of `cv2.resize(...)`."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
