"""Writes merge/src/base/quantisation/packed.json: `packed_table.py VLLM [--check]`.

Reads `packed_modules_mapping` of every model class in vLLM's sources (the folder `VLLM`, unpacked from its sdist) without running
them. A mapping says which modules of a checkpoint become one module of the engine, which takes them quantised or not quantised
together. A class has its own mapping, or that of the class that it inherits from; what a class adds to its mapping when it is made
counts too. The registry says which architecture has which class.

With `--check`, compares the file with what it would write.
"""

import argparse
import ast
import json
import re
import sys
from pathlib import Path

TABLE = Path(__file__).parents[2] / "merge/src/base/quantisation/packed.json"
NAME = "packed_modules_mapping"
Mapping = dict[str, list[str]]


class Classes:
    """The classes of vLLM's models, by file and name."""

    def __init__(self, models: Path) -> None:
        """Reads all files."""
        self.nodes: dict[tuple[str, str], ast.ClassDef] = {}
        self.imports: dict[str, dict[str, tuple[str, str]]] = {}
        for path in sorted(models.rglob("*.py")):
            module = ".".join(path.relative_to(models).with_suffix("").parts)
            tree = ast.parse(path.read_text())
            self.imports[module] = {}
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    self.nodes[module, node.name] = node
                elif isinstance(node, ast.ImportFrom) and node.module:
                    source = node.module.removeprefix("vllm.model_executor.models.")
                    self.imports[module] |= {a.asname or a.name: (source, a.name) for a in node.names}

    def find(self, module: str, name: str) -> tuple[str, str] | None:
        """The class that a name means in a file."""
        key = (module, name)
        for _ in range(4):
            if key in self.nodes:
                return key
            if key[1] not in self.imports.get(key[0], {}):
                return None
            key = self.imports[key[0]][key[1]]
        return None

    def mapping(self, key: tuple[str, str]) -> Mapping:
        """The mapping of a class."""
        node, module = self.nodes[key], key[0]
        inherited: Mapping = {}
        for base in reversed(node.bases):
            found = self.find(module, base.id) if isinstance(base, ast.Name) else None
            inherited |= self.mapping(found) if found else {}
        for statement in node.body:
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == NAME for target in targets):
                inherited = self.value(module, statement.value)
        return inherited | self.added(node)

    def value(self, module: str, node: ast.expr | None) -> Mapping:
        """The mapping that an expression is, as far as it is written down."""
        if isinstance(node, ast.Dict):
            whole: Mapping = {}
            for key, value in zip(node.keys, node.values, strict=True):
                whole |= self.value(module, value) if key is None else {ast.literal_eval(key): ast.literal_eval(value)}
            return whole
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self.value(module, node.left) | self.value(module, node.right)
        if isinstance(node, ast.Attribute) and node.attr == NAME and isinstance(node.value, ast.Name):
            found = self.find(module, node.value.id)
            return self.mapping(found) if found else {}
        return {}

    @staticmethod
    def added(node: ast.ClassDef) -> Mapping:
        """What `self.packed_modules_mapping[...] = [...]` adds."""
        added = {}
        for statement in ast.walk(node):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Attribute) and target.value.attr == NAME:
                added[ast.literal_eval(target.slice)] = ast.literal_eval(statement.value)
        return added


def registered(models: Path) -> dict[str, tuple[str, str]]:
    """The file and class of each architecture."""
    found = {}
    for node in ast.walk(ast.parse((models / "registry.py").read_text())):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Tuple) and len(value.elts) == 2:
                    file, name = (getattr(part, "value", None) for part in value.elts)
                    if isinstance(file, str) and isinstance(name, str):
                        found[key.value] = (file, name)
    return found


def table(source: Path) -> dict:
    """The whole table: each distinct mapping once."""
    models = source / "vllm" / "model_executor" / "models"
    classes = Classes(models)
    version = re.search(r"^Version: (\S+)$", (source / "PKG-INFO").read_text(), re.MULTILINE)
    mappings: list[Mapping] = []
    of: dict[str, int] = {}
    for architecture, key in sorted(registered(models).items()):
        found = classes.find(*key)
        mapping = classes.mapping(found) if found else {}
        several = {fused: parts for fused, parts in mapping.items() if len(parts) > 1}
        if not several:
            continue
        if several not in mappings:
            mappings.append(several)
        of[architecture] = mappings.index(several)
    return {"vllm": version.group(1) if version else None, "lists": mappings, "classes": of}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vllm", type=Path, metavar="VLLM")
    parser.add_argument("--check", action="store_true", help="compare, do not write")
    args = parser.parse_args()
    made = table(args.vllm)
    lines = [f'  "vllm": {json.dumps(made["vllm"])}', '  "lists": [\n    ' + ",\n    ".join(map(json.dumps, made['lists'])) + "\n  ]"]
    lines.append('  "classes": {\n    ' + ",\n    ".join(f"{json.dumps(k)}: {v}" for k, v in made["classes"].items()) + "\n  }")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    if args.check:
        same = TABLE.read_text() == text
        print("the table is vLLM's" if same else "the table differs from vLLM's")
        return 0 if same else 1
    TABLE.write_text(text)
    print(f"{len(made['lists'])} mappings of {len(made['classes'])} architectures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
