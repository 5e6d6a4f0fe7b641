"""Packs: YAML files of rules, one document a rule, as a person writes them; read, checked and turned into `Rule`
objects.

`read(paths, catalogue)` gives the rules and every `Finding` (file, line, column, what was expected); `load` raises
`ConfigError` with all of them at once. Owns nothing at run time. DESIGN §8 is the shape of a document; priorities and
states follow ISA-18.2.
"""

import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from devices.catalogue import Catalogue
from devices.errors import ConfigError
from rules.interpret import Deadband
from rules.language import Expression, LanguageError, duration, parse
from rules.model import Priority

PACKS = Path(__file__).with_name("packs")
EVERY_FAMILY = "*"
TEMPLATE_NAMES = frozenset({"value", "setpoint", "unit", "window", "duration", "subject", "name", "children"})
RuleKind = Literal["device", "zone", "silence", "gateway"]
_MAX_DELAY = 31 * 86_400_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a pack (or, as a warning, doubtful): lines and columns count from 1."""

    path: str
    line: int
    column: int
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.severity}: {self.message}"


@dataclass(frozen=True)
class Rule:
    """A checked rule. `when` holds one expression per family; delays and windows are in ms; texts are templates over
    evidence.
    """

    id: str
    kind: RuleKind
    families: tuple[str, ...]
    when: Mapping[str, Expression]
    priority: Priority
    title_zh: str
    title_en: str
    explanation_zh: str
    explanation_en: str
    advice_zh: str
    advice_en: str
    case: str | None
    on_delay: int
    off_delay: int
    deadband: Deadband
    zone_kind: str
    window: int
    zone_lateness: int
    coverage: float
    fingerprint: str  # changes with anything that changes when the rule fires


def _milliseconds(value: object) -> int:
    if value == 0:
        return 0
    if not isinstance(value, str):
        raise ValueError("expected a duration such as 10m")
    result = duration(value)
    if result > _MAX_DELAY:
        raise ValueError("expected a duration of at most 31d")
    return result


def _deadband(value: object) -> Deadband:
    if isinstance(value, str) and value.endswith("%"):
        return Deadband(fraction=float(value[:-1]) / 100)
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return Deadband(amount=float(value))
    raise ValueError("expected a share such as 5% or an amount in the property's unit; 0 switches it off")


Duration = Annotated[int, BeforeValidator(_milliseconds)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Bilingual(_Part):
    """One text for people, in both languages."""

    zh: str = Field(min_length=1, max_length=400)
    en: str = Field(min_length=1, max_length=400)


class AppliesTo(_Part):
    """Devices of a family (`*` = every family), or zones of a kind with their members of that family, or gateways."""

    family: str | tuple[str, ...] = EVERY_FAMILY
    zone_kind: str = ""


class RuleDocument(_Part):
    """One rule as written. Exactly one of `when` (expression), `silence: cadence` and `gateway: down` says what
    raises it.
    """

    rule: str = Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$", max_length=64)
    title: Bilingual
    applies_to: AppliesTo = AppliesTo()
    when: str | None = None
    silence: Literal["cadence"] | None = None
    gateway: Literal["down"] | None = None
    on_delay: Duration = 0
    off_delay: Duration = 0
    deadband: Annotated[Deadband, BeforeValidator(_deadband)] = Deadband(fraction=0.05)
    window: Duration = 0
    zone_lateness: Duration = 60_000
    coverage: float = Field(default=0.9, ge=0, le=1)
    priority: Priority
    case: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_.]*$", max_length=64)
    explanation: Bilingual
    advice: Bilingual

    @model_validator(mode="after")
    def _one_trigger(self) -> "RuleDocument":
        if sum(item is not None for item in (self.when, self.silence, self.gateway)) != 1:
            raise ValueError("expected exactly one of when, silence and gateway")
        if self.silence and (self.on_delay or self.off_delay):
            raise ValueError(
                "silence has no on_delay or off_delay; expected neither (its delay is learnt from the device)"
            )
        if self.applies_to.zone_kind and not (self.when and isinstance(self.applies_to.family, str) and self.window):
            raise ValueError("a rule for zones needs when, one family and a window")
        if self.applies_to.zone_kind and self.applies_to.family == EVERY_FAMILY:
            raise ValueError("a rule for zones needs one family")
        return self


def shipped() -> list[Path]:
    """The packs that come with songhua, in order of name."""
    return sorted(path for path in PACKS.glob("*.yaml") if not path.name.endswith(".test.yaml"))


def load(paths: Iterable[Path], catalogue: Catalogue) -> list[Rule]:
    """All rules of the packs. Raises `ConfigError` naming file, line, column and what was expected, for every error
    at once.
    """
    rules, findings = read(paths, catalogue)
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        raise ConfigError("\n".join(errors))
    return rules


def read(
    paths: Iterable[Path], catalogue: Catalogue, known_facts: Mapping[str, Collection[str]] | None = None
) -> tuple[list[Rule], list[Finding]]:
    """Rules that are right and findings about the others. `known_facts` (family -> names) adds warnings for facts no
    profile has.
    """
    rules: list[Rule] = []
    findings: list[Finding] = []
    homes: dict[str, str] = {}
    for path in paths:
        try:
            nodes = list(yaml.compose_all(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
        except (OSError, UnicodeDecodeError) as error:
            findings.append(Finding(str(path), 1, 1, f"cannot read the pack: {error}"))
            continue
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            findings.append(Finding(str(path), line, column, f"not YAML ({getattr(error, 'problem', error)})"))
            continue
        for node in nodes:
            document = _Located(str(path), node)
            rule = document.rule(catalogue, known_facts)
            findings += document.findings
            if rule is not None and rule.id in homes:
                findings.append(
                    document.at(("rule",), f"rule {rule.id} is already in {homes[rule.id]}; expected a new name")
                )
            elif rule is not None:
                homes[rule.id] = str(path)
                rules.append(rule)
    return rules, findings


class _Located:
    """One YAML document with the place of each of its parts."""

    def __init__(self, path: str, node: yaml.Node) -> None:
        self._path = path
        self._node = node
        self.findings: list[Finding] = []

    def at(
        self, location: Sequence[Any], message: str, offset: int = 0, severity: Literal["error", "warning"] = "error"
    ) -> Finding:
        """A finding at the part that `location` (keys from the root) leads to, or the nearest part above it that
        exists.
        """
        node = self._node
        for key in location:
            found = None
            if isinstance(node, yaml.MappingNode):
                found = next((value for name, value in node.value if name.value == key), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                found = node.value[key]
            if found is None:
                break
            node = found
        mark = node.start_mark
        quote = 1 if isinstance(node, yaml.ScalarNode) and node.style in ("'", '"') else 0
        return Finding(self._path, mark.line + 1, mark.column + 1 + quote + offset, message, severity)

    def rule(self, catalogue: Catalogue, known_facts: Mapping[str, Collection[str]] | None) -> Rule | None:
        try:
            data = yaml.SafeLoader("").construct_document(self._node)
        except yaml.YAMLError as error:
            self.findings.append(self.at((), f"not a rule ({getattr(error, 'problem', error)})"))
            return None
        if not isinstance(data, dict):
            self.findings.append(self.at((), "not a rule; expected a mapping that begins with rule: <name>"))
            return None
        try:
            document = RuleDocument.model_validate(data)
        except ValidationError as error:
            for item in error.errors(include_url=False):
                key = ".".join(map(str, item["loc"])) or "rule"
                self.findings.append(self.at(item["loc"], f"{key}: {item['msg'].removeprefix('Value error, ')}"))
            return None
        families = self._families(document, catalogue)
        when = self._expressions(document, families, catalogue)
        self._check_templates(document, when)
        if known_facts is not None:
            self._check_facts(when, known_facts)
        if any(finding.severity == "error" for finding in self.findings):
            return None
        return _rule(document, families, when)

    def _families(self, document: RuleDocument, catalogue: Catalogue) -> tuple[str, ...]:
        named = document.applies_to.family
        families = tuple(catalogue.families) if named == EVERY_FAMILY else (named,) if isinstance(named, str) else named
        for family in families:
            if family not in catalogue.families:
                expected = "one of " + ", ".join(catalogue.families)
                self.findings.append(self.at(("applies_to", "family"), f"unknown family {family}; expected {expected}"))
        return tuple(family for family in families if family in catalogue.families)

    def _expressions(
        self, document: RuleDocument, families: Sequence[str], catalogue: Catalogue
    ) -> dict[str, Expression]:
        when: dict[str, Expression] = {}
        if document.when is None:
            return when
        for family in families:
            try:
                when[family] = parse(document.when, family, catalogue, zone=bool(document.applies_to.zone_kind))
            except LanguageError as error:
                self.findings.append(self.at(("when",), f"when: {error}", error.column))
                break
        return when

    def _check_templates(self, document: RuleDocument, when: Mapping[str, Expression]) -> None:
        inputs = {name for expression in when.values() for name in (*expression.inputs, *expression.facts)}
        allowed = TEMPLATE_NAMES | inputs
        for key in ("explanation", "advice"):
            for language in ("zh", "en"):
                text = getattr(getattr(document, key), language)
                try:
                    fields = [(name, spec) for _, name, spec, _ in string.Formatter().parse(text) if name is not None]
                except ValueError as error:
                    self.findings.append(self.at((key, language), f"{key}: {error}; expected {{name}} or {{name:.2f}}"))
                    continue
                for name, spec in fields:
                    if name not in allowed or (spec and not _number_format(spec)):
                        expected = "one of " + ", ".join(sorted(allowed)) + ", with at most a format such as :.2f"
                        self.findings.append(
                            self.at((key, language), f"{key}: unknown place {{{name}}}; expected {expected}")
                        )

    def _check_facts(self, when: Mapping[str, Expression], known_facts: Mapping[str, Collection[str]]) -> None:
        for family, expression in when.items():
            for fact in sorted(expression.facts - set(known_facts.get(family, ()))):
                message = (
                    f"no profile of {family} has the fact {fact}: only devices that set it themselves have the rule"
                )
                self.findings.append(self.at(("when",), message, severity="warning"))


def _number_format(spec: str) -> bool:
    return len(spec) == 3 and spec[0] == "." and spec[1].isdigit() and spec[2] in "fg"


def _rule(document: RuleDocument, families: tuple[str, ...], when: dict[str, Expression]) -> Rule:
    kind: RuleKind = "device"
    if document.silence:
        kind = "silence"
    elif document.gateway:
        kind = "gateway"
    elif document.applies_to.zone_kind:
        kind = "zone"
    meaning = document.model_dump_json(exclude={"title", "explanation", "advice", "case", "deadband"})
    meaning += f"{document.deadband.fraction}/{document.deadband.amount}"
    return Rule(
        id=document.rule,
        kind=kind,
        families=families,
        when=when,
        priority=document.priority,
        title_zh=document.title.zh,
        title_en=document.title.en,
        explanation_zh=document.explanation.zh,
        explanation_en=document.explanation.en,
        advice_zh=document.advice.zh,
        advice_en=document.advice.en,
        case=document.case,
        on_delay=document.on_delay,
        off_delay=document.off_delay,
        deadband=document.deadband,
        zone_kind=document.applies_to.zone_kind,
        window=document.window,
        zone_lateness=document.zone_lateness,
        coverage=document.coverage,
        fingerprint=blake2b(meaning.encode(), digest_size=8).hexdigest(),
    )
