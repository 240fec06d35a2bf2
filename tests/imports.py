"""What the modules of a source tree import, read from their source: nothing is executed."""

import ast
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

Imports = Mapping[str, frozenset[str]]


def read_imports(root: Path, *packages: str) -> Imports:
    """For each module of the packages under `root`, the names that it imports, inside functions too.

    Names from these packages are cut to the module; names from other packages stay whole.
    """
    paths = {
        _module(path.relative_to(root)): path for name in packages for path in (root / name).rglob("*.py")
    }
    return {
        module: frozenset(_nearest(name, paths) for name in _imported(module, path))
        for module, path in paths.items()
    }


def chain_to(
    imports: Imports, start: str, forbidden: frozenset[str], allowed: frozenset[str] = frozenset()
) -> list[str] | None:
    """The shortest chain of imports from a module to a forbidden name that is not allowed, if any.

    Each name also stands for all names below it.
    """
    queue = deque([[start]])
    seen = {start}
    while queue:
        chain = queue.popleft()
        for name in sorted(_executed(imports, chain[-1])):
            if name in seen:
                continue
            if is_within(name, forbidden) and not is_within(name, allowed):
                return [*chain, name]
            seen.add(name)
            queue.append([*chain, name])
    return None


def is_within(name: str, packages: frozenset[str]) -> bool:
    """Whether a dotted name is one of the packages or below one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _executed(imports: Imports, module: str) -> frozenset[str]:
    # An import of a.b.c also runs the __init__ of a and of a.b.
    parents = [module.rsplit(".", depth)[0] for depth in range(module.count(".") + 1)]
    return frozenset().union(*(imports.get(name, frozenset()) for name in parents))


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _nearest(name: str, modules: Mapping[str, Path]) -> str:
    # `from package.module import thing` reads as package.module.thing: cut it to the module.
    nearest = name
    while nearest not in modules:
        nearest, dot, _ = nearest.rpartition(".")
        if not dot:
            return name
    return nearest


def _imported(module: str, path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"), path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                package = module if path.name == "__init__.py" else module.rpartition(".")[0]
                base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                source = f"{base}.{source}".rstrip(".")
            yield from (f"{source}.{alias.name}" for alias in node.names)
