"""The reference pages in `docs/reference/`, made from the code: settings, metrics, properties, profiles, rules, routes.

`python -m songhua.reference` writes them; with `--check` it writes nothing, names the pages that are stale and exits
with 1. Nobody edits these pages by hand, so what is documented is what the code does.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from devices import catalogue, profile
from rules import pack
from rules.explain import explain
from rules.language import duration_text
from songhua import exit_codes
from songhua.quantities import format_size
from songhua.settings import Settings, variable

_FORMS: dict[object, str] = {int: "number", bool: "true or false", str: "text", Path: "path", SecretStr: "secret"}
FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"


def settings_page() -> str:
    """Every setting with its variable, form, default and meaning."""
    rows = [
        (f"`{variable(name)}`", _form(field), _default(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _page(
        "Settings",
        "Environment variables, read once at start. A wrong value, or a variable with our prefix that is not listed, "
        "stops the start with one line and exit code 2.",
        _table(("Variable", "Form", "Default", "Meaning"), rows),
    )


def metrics_page() -> str:
    """Every metric of `/metrics`."""
    from api.metrics import METRICS

    rows = [
        (f"`{metric.name}`", metric.kind, ", ".join(metric.labels) or "-", metric.en, metric.zh) for metric in METRICS
    ]
    return _page(
        "Metrics",
        "`GET /metrics` answers in Prometheus' format, to a token or to this machine. "
        "Counters survive restarts unless they say otherwise.",
        _table(("Name", "Type", "Labels", "Meaning", "含义"), rows),
    )


def properties_page() -> str:
    """The property catalogue by family."""
    known = catalogue.load()
    sections = []
    for name, family in known.families.items():
        rows = []
        for key in family.properties:
            prop = known.properties[key]
            span = f"{prop.range[0]:g} to {prop.range[1]:g}" if prop.range else ", ".join(prop.values) or "-"
            rows.append((f"`{key}`", prop.kind, prop.unit or "-", span, prop.en, prop.zh))
        sections.append(f"## {name}: {family.en} / {family.zh}\n")
        sections.append(_table(("Property", "Kind", "Unit", "Range", "English", "中文"), rows))
    return _page(
        "Properties",
        "Canonical names of what devices report, with UCUM units. A value outside its range is dropped and flagged.",
        *sections,
    )


def profiles_page() -> str:
    """Every shipped device profile with its payload keys and an example."""
    known = profile.load_profiles()
    sections = []
    for name, compiled in known.items():
        rows = [(f"`{key}`", f"`{prop}`", compiled.units[prop] or "-") for key, prop in compiled.keys.items()]
        facts = ", ".join(f"`{fact}` = {value:g}" for fact, value in compiled.facts.items()) or "none"
        sections += [
            f"## {name}\n",
            f"{compiled.title['en']} / {compiled.title['zh']}. Family `{compiled.family}`, "
            f"interval {duration_text(compiled.interval)}, facts: {facts}.\n",
            _table(("Payload key", "Property", "Unit"), rows),
            f"```json\n{compiled.examples[0].payload}\n```\n",
        ]
    return _page("Profiles", "Device models that songhua knows; one YAML file each in `devices/profiles/`.", *sections)


def rules_page() -> str:
    """Every shipped rule in words."""
    known = catalogue.load()
    sections = []
    for rule in pack.load(pack.shipped(), known):
        words = explain(rule, known)
        sections += [f"## {rule.id}\n", _lines(words["en"]), _lines(words["zh"])]
    return _page(
        "Rules", "What the shipped packs raise alarms for; `songhua rules explain RULE` prints the same.", *sections
    )


def routes_page() -> str:
    """Every route of the API with who may call it."""
    from api.app import describable_app
    from api.openapi import describe

    rows = [
        (method.upper(), f"`{path}`", str(operation["x-role"] or "everybody"), operation.get("description", ""))
        for path, operations in describe(describable_app())["paths"].items()
        for method, operation in operations.items()
    ]
    return _page(
        "Routes",
        "The HTTP API. `/openapi.json` has the schemas. Roles include the ones before them: viewer, operator, admin.",
        _table(("Method", "Path", "Who", "What"), rows),
    )


PAGES: dict[str, Callable[[], str]] = {
    "settings": settings_page,
    "metrics": metrics_page,
    "properties": properties_page,
    "profiles": profiles_page,
    "rules": rules_page,
    "routes": routes_page,
}


def stale() -> list[Path]:
    """Pages whose file differs from what the code says now."""
    return [path for path, text in _pages() if not path.exists() or path.read_text(encoding="utf-8") != text]


def main() -> int:
    """Write the pages, or check them; returns the exit code."""
    if sys.argv[1:] == ["--check"]:
        for path in (old := stale()):
            print(
                f"{path.relative_to(FOLDER.parent.parent)} is stale; run python -m songhua.reference", file=sys.stderr
            )
        return exit_codes.FAILED if old else exit_codes.DONE
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in _pages():
        path.write_text(text, encoding="utf-8")
    return exit_codes.DONE


def _pages() -> Iterable[tuple[Path, str]]:
    return ((FOLDER / f"{name}.md", make()) for name, make in PAGES.items())


def _page(title: str, lead: str, *sections: str) -> str:
    note = "<!-- Made by `python -m songhua.reference`; change the code, not this page. -->"
    return "\n".join([f"# {title}\n", f"{note}\n", f"{lead}\n", *sections])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _lines(text: str) -> str:
    """Several lines of plain text that stay lines."""
    return "\n".join(f"{line}  " for line in text.splitlines()) + "\n"


def _quantity(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra.get("quantity", "")) if isinstance(extra, dict) else ""


def _form(field: FieldInfo) -> str:
    if quantity := _quantity(field):
        return {"duration": "duration, `90s`", "size": "size, `2GiB`"}[quantity]
    if choices := get_args(field.annotation):
        return " or ".join(f"`{choice}`" for choice in choices)
    return _FORMS[field.annotation]


def _default(field: FieldInfo) -> str:
    value = field.default
    if _quantity(field) == "duration":
        value = duration_text(value)
    elif _quantity(field) == "size":
        value = format_size(value)
    elif isinstance(value, SecretStr):
        value = value.get_secret_value()
    elif isinstance(value, bool):
        value = str(value).lower()
    return f"`{value}`" if str(value) else "empty"


if __name__ == "__main__":
    sys.exit(main())
