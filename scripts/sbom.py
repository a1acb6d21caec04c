"""Writes the bill of materials of requirements.lock and its licences: ``python scripts/sbom.py DIRECTORY``.

``sbom.json`` is CycloneDX 1.6: each locked package with the hashes of its files, its licence, what it depends on and
the images that hold it. ``licences.md`` is the same for people. Exits with 1 and the reasons when a licence is unknown
or not allowed by licences.toml. The same lock gives the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = "tunix-rt"
_NAMESPACE = uuid.UUID("6f0c0f0e-4a0b-5d63-9d5b-7c1f2f7f5b9a")
_SPDX = get_spdx_licensing()


@dataclass(frozen=True)
class Package:
    """An entry of the lock."""

    name: str
    version: str
    sha256: tuple[str, ...]
    images: tuple[str, ...]


@dataclass(frozen=True)
class Licences:
    """licences.toml: what is allowed, and what a person has looked at."""

    allowed: frozenset[str]
    spelling: Mapping[str, str]
    packages: Mapping[str, Mapping[str, Any]]
    problems: list[str] = field(default_factory=list)

    def of(self, name: str) -> str:
        """The SPDX expression of a package's licence; what is wrong with it goes to ``problems``."""
        entry = self.packages.get(name, {})
        text = entry.get("licence") or self._declared(name)
        if not text:
            self.problems.append(f"{name}: its licence is unknown; add it to scripts/licences.toml with a reason")
        elif not entry.get("allowed") and not self._permits(_SPDX.parse(text)):
            self.problems.append(f"{name}: {text} is not allowed by scripts/licences.toml")
        return text or "NOASSERTION"

    def _declared(self, name: str) -> str:
        """What the package says in a way that is not open to doubt, else "" ."""
        metadata = distribution(name).metadata
        classifiers = [text.split(" :: ")[-1] for text in metadata.get_all("Classifier") or [] if "License ::" in text]
        single = classifiers if len(classifiers) == 1 else []
        for text in (metadata.get("License-Expression"), metadata.get("License"), *single):
            known = self.spelling.get(text or "", text or "")
            if known and "\n" not in known and not _SPDX.validate(known).errors:
                return known
        return ""

    def _permits(self, expression: Any) -> bool:
        if expression.isliteral:
            return str(expression) in self.allowed
        choose = any if expression.operator == "OR" else all
        return bool(expression.args) and choose(self._permits(part) for part in expression.args)


def read_lock(root: Path) -> list[Package]:
    """The lock's packages. Raises `ValueError` for an entry without a version or a hash."""
    images: dict[str, list[str]] = {}
    for path in sorted((root / "deploy" / "requirements").glob("*.txt")):
        for pin in path.read_text().split():
            if path.stem != "build":
                images.setdefault(pin, []).append(path.stem)
    found = []
    for entry in re.split(r"\n(?=\S)", (root / "requirements.lock").read_text().strip()):
        pin, hashes = entry.split()[0], re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
        name, _, version = pin.partition("==")
        if not version or not hashes:
            raise ValueError(f"requirements.lock: {pin} has no version or no hash")
        found.append(Package(name, version, tuple(hashes), tuple(images.get(pin, ()))))
    return found


def depends_on(project: Mapping[str, Any]) -> dict[str, set[str]]:
    """Package → packages that it needs here, for every extra of the project."""
    graph: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(PROJECT, ""), *((PROJECT, extra) for extra in project["optional-dependencies"])]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for needed in _needed(project, name, extra):
            child = canonicalize_name(needed.name)
            if child != name:
                graph.setdefault(name, set()).add(child)
            waiting += [(child, ""), *((child, wanted) for wanted in needed.extras)]
    return graph


def _needed(project: Mapping[str, Any], name: str, extra: str) -> Iterator[Requirement]:
    if name == PROJECT:
        yield from map(Requirement, project["optional-dependencies"][extra] if extra else project["dependencies"])
        return
    for requirement in map(Requirement, distribution(name).requires or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def bill(project: Mapping[str, Any], packages: list[Package], licences: Mapping[str, str]) -> str:
    """The bill of materials as JSON."""
    own = Component(
        name=PROJECT,
        version=project["version"],
        type=ComponentType.APPLICATION,
        bom_ref=PROJECT,
        licenses=[LicenseExpression(project["license"])],
    )
    components = {package.name: _component(package, licences[package.name]) for package in packages}
    serial = uuid.uuid5(_NAMESPACE, repr((packages, sorted(licences.items()))))
    bom = Bom(components=components.values(), metadata=BomMetaData(component=own), serial_number=serial)
    for name, needed in depends_on(project).items():
        bom.register_dependency(own if name == PROJECT else components[name], [components[child] for child in needed])
    document = json.loads(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    del document["metadata"]["timestamp"]
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        raise ValueError(f"not CycloneDX: {wrong}")
    return text


def _component(package: Package, licence: str) -> Component:
    return Component(
        name=package.name,
        version=package.version,
        bom_ref=f"{package.name}=={package.version}",
        purl=PackageURL("pypi", name=package.name, version=package.version),
        scope=ComponentScope.REQUIRED if package.images else ComponentScope.OPTIONAL,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in package.sha256],
        licenses=[LicenseExpression(licence)],
        properties=[Property(name="tunix-rt:image", value=image) for image in package.images],
    )


def table(packages: list[Package], licences: Mapping[str, str], policy: Licences) -> str:
    """The licences as Markdown, with what a person has said about some."""
    lines = ["# Licences", "", "| package | version | licence | images |", "|---|---|---|---|"]
    lines += [f"| {p.name} | {p.version} | {licences[p.name]} | {', '.join(p.images)} |" for p in packages]
    lines += ["", "## Looked at by a person", ""]
    lines += [f"- {name}: {licences[name]}; {policy.packages[name]['reason']}" for name in sorted(policy.packages)]
    return "\n".join(lines) + "\n"


def main(directory: Path) -> int:
    """Writes both files; returns the exit status."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rules = tomllib.loads((ROOT / "scripts" / "licences.toml").read_text())
    policy = Licences(frozenset(rules["allowed"]), rules["spelling"], rules["packages"])
    packages = read_lock(ROOT)
    try:
        licences = {package.name: policy.of(package.name) for package in packages}
    except PackageNotFoundError as error:
        print(f"{error.name} is locked but not installed: run make install", file=sys.stderr)
        return 1
    unlocked = sorted(policy.packages.keys() - licences)
    policy.problems.extend(f"{name}: in scripts/licences.toml but not locked" for name in unlocked)
    if policy.problems:
        print("\n".join(policy.problems), file=sys.stderr)
        return 1
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sbom.json").write_text(bill(project, packages, licences))
    (directory / "licences.md").write_text(table(packages, licences, policy))
    print(f"{directory / 'sbom.json'}, {directory / 'licences.md'}: {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
