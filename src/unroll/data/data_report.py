"""What a look at a corpus found: findings with a severity, facts, and their rendering as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unroll.errors import ValidationError

Severity = Literal["ok", "warning", "error"]
MAX_EXAMPLES = 5
_EXCERPT = 80


@dataclass(frozen=True)
class Finding:
    """One check: what it counted, and whether that matters."""

    name: str
    severity: Severity
    count: int
    message: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataReport:
    """All checks on one corpus. ``facts`` are plain numbers, texts and groups of them, fit for JSON."""

    findings: tuple[Finding, ...]
    facts: Mapping[str, Any]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that forbid training."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that training survives and a reader should know."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    def finding(self, name: str) -> Finding:
        """A finding by name. Raises KeyError."""
        return {finding.name: finding for finding in self.findings}[name]

    def raise_on_error(self) -> None:
        """Raise ValidationError listing every error, if there is one."""
        if self.errors:
            lines = [
                f"  {finding.name}: {finding.message}" + "".join(f"\n    {example}" for example in finding.examples)
                for finding in self.errors
            ]
            raise ValidationError("The corpus is not fit to train on:\n" + "\n".join(lines))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"findings": [asdict(finding) for finding in self.findings], "facts": dict(self.facts)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> DataReport:
        """What `to_dict` gave."""
        findings = (Finding(**{**finding, "examples": tuple(finding["examples"])}) for finding in plain["findings"])
        return cls(tuple(findings), plain["facts"])

    def to_markdown(self) -> str:
        """A page: verdict, table of checks, examples, facts."""
        verdict = f"{len(self.findings)} checks, {len(self.warnings)} warnings, {len(self.errors)} errors."
        checks = [(finding.severity, finding.name, f"{finding.count:,}", finding.message) for finding in self.findings]
        parts = [
            f"# Data report\n\n{verdict}\n",
            "## Checks\n",
            _table(("verdict", "check", "count", "finding"), checks),
        ]
        for finding in self.findings:
            if finding.examples:
                parts.append(f"\nExamples of {finding.name}:\n")
                parts += [f"- `{example.replace('`', chr(39))}`" for example in finding.examples]
        facts = [(name, _show(value)) for name, value in self.facts.items()]
        parts += ["\n## Facts\n", _table(("fact", "value"), facts)]
        return "\n".join(parts) + "\n"


def warn_if(count: int) -> Severity:
    """A warning where anything was counted."""
    return "warning" if count else "ok"


def excerpt(text: str, start: int = 0, stop: int = 0) -> str:
    """At most 80 characters around ``text[start:stop]`` on one line, unprintable ones escaped."""
    first = max(0, start - (_EXCERPT - (stop - start)) // 2)
    piece = text[first : first + _EXCERPT]
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in piece)
    return ("…" if first else "") + shown + ("…" if first + _EXCERPT < len(text) else "")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _show(value: Any) -> str:
    if isinstance(value, Mapping):
        nested = any(isinstance(item, Mapping) for item in value.values())
        return ("; " if nested else ", ").join(f"{name} {_show(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
