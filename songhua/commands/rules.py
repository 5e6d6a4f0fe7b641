"""Rule packs: `songhua rules lint|test|explain`. Without paths they take the packs that come with songhua."""

import difflib
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from songhua import exit_codes
from songhua.settings import load

app = typer.Typer(help="Rule packs: check, test, explain.", no_args_is_help=True)

_Paths = Annotated[
    list[Path] | None, typer.Argument(exists=True, help="Packs, or folders of packs.", show_default=False)
]


@app.command()
def lint(paths: _Paths = None) -> None:
    """Check packs; each finding is one line with file, line, column and what was expected."""
    from rules.cases import lint as check
    from rules.cases import packs_of
    from rules.pack import PACKS

    packs = packs_of(paths or [PACKS])
    findings = check(packs, _facts_of_profiles())
    for finding in findings:
        print(finding)
    errors = sum(finding.severity == "error" for finding in findings)
    print(f"{len(packs)} packs, {errors} errors, {len(findings) - errors} warnings")
    sys.exit(exit_codes.FAILED if errors or not packs else exit_codes.DONE)


@app.command()
def test(paths: _Paths = None) -> None:
    """Run the cases beside packs (`*.test.yaml`) on the production engine."""
    from rules.cases import run_cases
    from rules.pack import PACKS

    results = run_cases(paths or [PACKS])
    failed = [result for result in results if not result.passed]
    for result in failed:
        print(f"{result.path}:{result.line}: {result.name}\n{result.detail}")
    print(f"{len(results) - len(failed)} cases passed, {len(failed)} failed")
    sys.exit(exit_codes.FAILED if failed or not results else exit_codes.DONE)


@app.command()
def explain(
    rule: Annotated[
        str | None, typer.Argument(help="Such as water_meter.burst. Default: all.", show_default=False)
    ] = None,
    paths: _Paths = None,
    language: Annotated[Literal["zh", "en"] | None, typer.Option(help="Default: SONGHUA_LANGUAGE.")] = None,
) -> None:
    """Say in full sentences what a rule does, or what each of them does."""
    from devices.catalogue import load as load_catalogue
    from rules.cases import packs_of
    from rules.explain import explain as put_in_words
    from rules.pack import PACKS
    from rules.pack import load as load_packs

    catalogue = load_catalogue()
    known = {item.id: item for item in load_packs(packs_of(paths or [PACKS]), catalogue)}
    if rule is not None and rule not in known:
        nearest = difflib.get_close_matches(rule, known, n=3, cutoff=0.3) or sorted(known)[:3]
        print(f"songhua: there is no rule {rule}; there are {', '.join(nearest)} and others", file=sys.stderr)
        sys.exit(exit_codes.FAILED)
    wanted = language or load().language
    print("\n\n".join(put_in_words(known[name], catalogue)[wanted] for name in ([rule] if rule else known)))


def _facts_of_profiles() -> dict[str, set[str]]:
    """Facts that some shipped profile of a family has; a rule that reads another one deserves a warning."""
    from devices.profile import load_profiles

    facts: dict[str, set[str]] = {}
    for profile in load_profiles().values():
        facts.setdefault(profile.family, set()).update(profile.facts)
    return facts
