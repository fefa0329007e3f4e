"""Row F-60 of the fault matrix: what the delivered software says about itself, read from the files that decide it."""

from __future__ import annotations

import re
import tomllib
from itertools import takewhile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")


def text(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile in order, continued lines joined."""
    lines = re.sub(r"\\\n\s*", " ", dockerfile).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word.isupper()]


def test_f60_the_image_runs_as_a_user_without_rights_and_has_a_health_check():
    steps = instructions(text("Dockerfile"))
    users = [rest for word, rest in steps if word == "USER"]
    assert users
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1]), "a number, so that Kubernetes can check it"
    after = [word for word, _ in takewhile(lambda step: step[0] != "USER", reversed(steps))]
    assert not {"RUN", "COPY", "ADD"} & set(after), "nothing is made as somebody else afterwards"
    assert any(word == "HEALTHCHECK" and "/healthz" in rest for word, rest in steps)
    assert not any(word == "ADD" for word, _ in steps)


def test_f60_only_the_data_directory_is_written_to():
    environment = " ".join(rest for word, rest in instructions(text("Dockerfile")) if word == "ENV")
    assert "PYTHONDONTWRITEBYTECODE=1" in environment
    assert "DATABASE_URL=sqlite:////data/" in environment
    assert [rest for word, rest in instructions(text("Dockerfile")) if word == "VOLUME"] == ["/data"]
    compose = text("compose.yaml").split("prometheus:")[0]
    for promise in ("read_only: true", "cap_drop: [ALL]", "no-new-privileges:true"):
        assert promise in compose, promise


@pytest.mark.parametrize("name", LOCKS)
def test_f60_every_dependency_is_pinned_to_one_version_by_hash(name: str):
    entries = re.sub(r"\\\n\s*", " ", text(name)).splitlines()
    packages = [entry for entry in entries if entry and not entry.startswith("#")]
    assert len(packages) > 15
    for package in packages:
        assert re.match(r"[A-Za-z0-9._-]+==\S+ ", package), package[:60]
        assert "--hash=sha256:" in package, package[:60]


def test_f60_everything_the_bot_imports_is_in_the_lock_and_both_locks_agree():
    def pinned(name: str) -> dict[str, str]:
        return {found[1]: found[2] for found in re.finditer(r"^([A-Za-z0-9._-]+)==(\S+)", text(name), re.MULTILINE)}

    for_running, for_working = (pinned(name) for name in LOCKS)
    assert for_running.items() <= for_working.items()
    wanted = tomllib.loads(text("pyproject.toml"))["project"]["dependencies"]
    for requirement in wanted:
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert found is not None
        assert found[0].lower().replace(".", "-") in for_running


def test_f60_nothing_is_installed_without_its_hash():
    installing = [rest for word, rest in instructions(text("Dockerfile")) if "pip install" in rest and word == "RUN"]
    made = [line for line in text("Makefile").splitlines() if "pip install" in line]
    assert installing
    assert made
    for line in (*installing, *made):
        assert "--require-hashes" in line
        assert "--no-deps" in line


def test_f60_security_rules_and_known_vulnerabilities_stop_a_release():
    lint = tomllib.loads(text("pyproject.toml"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not any(rule == "S" or (re.fullmatch(r"S\d+", rule) and rule != "S101") for rule in lint["ignore"])
    assert "ruff check ." in text("Makefile")
    workflow = text(".github/workflows/ci.yml")
    assert "make audit" in workflow
    assert "bash .ci/run" in workflow
    assert "continue-on-error" not in workflow
    script = text(".ci/run")
    for step in ("make lint", "make types", "make test", "make coverage"):
        assert re.search(rf"^{step}$", script, re.MULTILINE), step
    assert "set -euo pipefail" in script
    assert "permissions:\n  contents: read" in workflow
