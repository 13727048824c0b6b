"""A job of a GitHub workflow, run here: its expressions, its steps in bash, and stand-ins for actions and `gh`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.command import OURS, ROOT

BOT = "github-actions[bot]"
# strings, names with their dots, operators
TOKEN = re.compile(r"'(?:[^']|'')*'|[A-Za-z_][\w.-]*|&&|\|\||!=|!|.", re.DOTALL)
OPERATORS = {"&&": " and ", "||": " or ", "!": " not ", "!=": "!=", "true": "True", "false": "False", "null": "None"}
FUNCTIONS = ("format", "fromJSON", "cancelled", "success")

GH = """\
import json, os, subprocess, sys
place = os.environ["FAKE_GITHUB"]
with open(f"{place}/calls.jsonl", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if os.path.exists(f"{place}/read-only") and "--method" in sys.argv:
    sys.exit("HTTP 403: Resource not accessible by integration")
words = sys.argv[1:]
assert words.pop(0) == "api" and os.environ["GH_TOKEN"] == "a-token"
options, paths = {}, []
while words:
    word = words.pop(0)
    if word in ("--jq", "--method", "--field"): options[word] = words.pop(0)
    elif not word.startswith("--"): paths.append(word)
comments = json.load(open(f"{place}/comments.json"))
if "--method" not in options:
    answer = subprocess.run(["jq", "-r", options["--jq"]], input=json.dumps(comments), text=True, capture_output=True)
    sys.stdout.write(answer.stdout)
    sys.exit(answer.returncode)
name, _, path = options["--field"].partition("=@")
assert name == "body"
body = open(path).read()
assert len(body) < 65_536
if options["--method"] == "POST":
    comments.append({"id": len(comments) + 1, "user": {"login": "github-actions[bot]"}, "body": body, "path": paths[0]})
else:
    comments[int(paths[0].rpartition("/")[2]) - 1]["body"] = body
json.dump(comments, open(f"{place}/comments.json", "w"))
"""


@dataclass
class Ran:
    """What came of a job."""

    succeeded: bool
    summary: str
    log: str
    outputs: dict[str, Any]
    artifacts: Path


@dataclass
class Github:
    """A repository with its cache, secrets, variables and comments; ``tree`` is the checked out copy of this one."""

    place: Path
    secrets: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    runs: int = 0

    @classmethod
    def make(cls, place: Path, variables: dict[str, str]) -> Github:
        """Copy the tree as git has it, with what is not committed yet, and stand in for its environment and for gh."""
        github = cls(place, variables=variables)
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (github.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, github.tree / name)
        paths = f"{github.tree / 'src'}:{github.tree}"
        _script(
            github.tree / ".venv" / "bin" / "unroll",
            f"PYTHONPATH={paths} exec {sys.executable} -c 'from flows.cli import main; main()' \"$@\"",
        )
        (github.tree / ".venv" / "installed").touch()  # later than what it is made from: nothing is installed
        (place / "gh.py").write_text(GH, encoding="utf-8")
        _script(place / "bin" / "gh", f'exec {sys.executable} {place / "gh.py"} "$@"')
        (place / "comments.json").write_text("[]", encoding="utf-8")
        return github

    @property
    def tree(self) -> Path:
        return self.place / "work" / "unroll"

    @property
    def comments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.place / "comments.json").read_text(encoding="utf-8"))
        return found

    def calls(self) -> list[list[str]]:
        path = self.place / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def run(self, workflow: str, job: str, event: str, matrix: dict[str, str], **inputs: Any) -> Ran:
        """Run a job's steps in order, as an event would."""
        self.runs += 1
        runner = self.place / f"run-{self.runs}"
        (runner / "artifacts").mkdir(parents=True)
        steps = workflow_of(workflow, self.tree)["jobs"][job]["steps"]
        contexts: dict[str, Any] = {
            "github": {
                "event_name": event,
                "event": {"number": 12} if event == "pull_request" else {},
                "run_id": self.runs,
                "run_attempt": 1,
                "token": "a-token",
            },
            "runner": {"os": "Linux"},
            "matrix": matrix,
            "inputs": inputs,
            "secrets": self.secrets,
            "vars": self.variables,
            "steps": {},
        }
        ran = Ran(True, "", "", {}, runner / "artifacts")
        for step in steps:
            wanted = evaluate(step["if"], contexts) if "if" in step else ran.succeeded
            if wanted:
                ran.succeeded &= self._step(step, contexts, runner, ran)
        summary = runner / "summary.md"
        ran.summary = summary.read_text(encoding="utf-8") if summary.exists() else ""
        shutil.rmtree(self.tree / ".unroll", ignore_errors=True)  # the next job has a machine of its own
        return ran

    def _step(self, step: dict[str, Any], contexts: dict[str, Any], runner: Path, ran: Ran) -> bool:
        if "uses" in step:
            self._action(step, contexts, ran)
            return True
        given = {name: _text(filled(value, contexts)) for name, value in step.get("env", {}).items()}
        output = runner / f"output-{step.get('id', len(ran.log))}"
        answer = subprocess.run(
            ["bash", "-e", "-c", step["run"]],
            cwd=self.tree,
            env=self._environment(runner, output) | given,
            capture_output=True,
            text=True,
            timeout=500,
        )
        ran.log += answer.stdout + answer.stderr
        if "id" in step:
            lines = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
            ran.outputs = dict(line.split("=", 1) for line in lines)
            contexts["steps"][step["id"]] = {"outputs": ran.outputs}
        return answer.returncode == 0

    def _environment(self, runner: Path, output: Path) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith((*OURS, "PYTHONPATH"))}
        plain["PATH"] = f"{self.place / 'bin'}:{plain['PATH']}"
        return plain | {
            **{"GITHUB_STEP_SUMMARY": str(runner / "summary.md"), "GITHUB_OUTPUT": str(output)},
            **{"GITHUB_REPOSITORY": "someone/unroll", "GITHUB_ACTIONS": "true", "CI": "true"},
            **{"FAKE_GITHUB": str(self.place), "OMP_NUM_THREADS": "1", "HOME": str(self.place)},
        }

    def _action(self, step: dict[str, Any], contexts: dict[str, Any], ran: Ran) -> None:
        name = step["uses"].partition("@")[0]
        given = {key: filled(value, contexts) for key, value in step.get("with", {}).items()}
        cache = self.place / "cache"
        if name == "actions/cache/restore":
            kept = sorted(cache.glob(f"{given['restore-keys']}*"), key=lambda path: path.stat().st_mtime_ns)
            if kept:
                shutil.copytree(kept[-1], self.tree, dirs_exist_ok=True)
        elif name == "actions/cache/save":
            for path in given["path"].split():
                _copy(self.tree / path, cache / given["key"] / path)
        elif name == "actions/upload-artifact":
            _copy(self.tree / given["path"], ran.artifacts / given["name"])
        else:
            assert name in ("actions/checkout", "actions/setup-python"), f"no stand-in for {name}"


def workflow_of(name: str, tree: Path = ROOT) -> dict[Any, Any]:
    """A workflow, read."""
    found: dict[Any, Any] = yaml.safe_load((tree / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))
    return found


def filled(value: Any, contexts: dict[str, Any]) -> Any:
    """A value of a workflow with its expressions evaluated; one that is all expression keeps its type."""
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\$\{\{(.*?)\}\}", value.strip(), re.DOTALL)
    if whole:
        return evaluate(whole[1], contexts)
    return re.sub(r"\$\{\{(.*?)\}\}", lambda found: _text(evaluate(found[1], contexts)), value)


def evaluate(expression: str, contexts: dict[str, Any]) -> Any:
    """An expression of GitHub's, by way of Python's, which has the same precedence, and `or` with the same meaning."""
    source = re.sub(r"^\s*\$\{\{|\}\}\s*$", "", expression).strip()
    words = []
    for token in TOKEN.findall(source):
        is_name = token[0].isalpha() and token not in (*OPERATORS, *FUNCTIONS)
        words.append(f"look({token!r})" if is_name else OPERATORS.get(token, token))

    def look(dotted: str) -> Any:
        value: Any = contexts
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    functions = {
        "look": look,
        "format": lambda text, *values: text.format(*values),
        "fromJSON": json.loads,
        "cancelled": lambda: False,
        "success": lambda: True,
    }
    return eval("".join(words), {"__builtins__": {}}, functions)


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copy2(source, target)
