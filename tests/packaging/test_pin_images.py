"""`.ci/pin_images.py`: every image gets its digest, or no file changes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DIGEST = "sha256:" + "0123456789abcdef" * 4
LATER = "sha256:" + "fedcba9876543210" * 4
OWN = f"ghcr.io/someone/image-bot@{DIGEST}"
NAMES_AN_IMAGE = re.compile(r"^(?:FROM|[ -]*image:)\s", re.MULTILINE)
THEIRS = {"python:3.13-slim", "postgres:17", "prom/prometheus:v3.5.0", "grafana/grafana:12.1.0"}


class Deployment:
    """A copy of the project's files, and a program `docker` that knows one digest for every tag."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self._programs = folder / "programs"
        self._programs.mkdir()
        self.names = [
            path.relative_to(PROJECT)
            for path in (PROJECT / "Dockerfile", *PROJECT.glob("*.yaml"), *(PROJECT / "deploy").iterdir())
            if NAMES_AN_IMAGE.search(path.read_text(encoding="utf-8"))
        ]
        for name in self.names:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, self.folder / name)
        self.registry_says(DIGEST)

    def registry_says(self, digest: str, *, status: int = 0) -> None:
        docker = self._programs / "docker"
        docker.write_text(f'#!/bin/sh\necho "$4" >> asked\necho "{digest}"\necho not found >&2\nexit {status}\n')
        docker.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = PROJECT / ".ci" / "pin_images.py"
        return subprocess.run(
            [sys.executable, script, *arguments],
            cwd=self.folder,
            env={"PATH": f"{self._programs}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text(encoding="utf-8").split()

    @property
    def text(self) -> str:
        return "\n".join((self.folder / name).read_text(encoding="utf-8") for name in self.names)

    @property
    def images(self) -> set[str]:
        return set(re.findall(r"^(?:FROM|[ -]*image:) +(\S+)", self.text, re.MULTILINE))


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def test_every_image_gets_the_digest_that_its_registry_has_and_the_own_one_that_of_its_build(
    deployment: Deployment,
) -> None:
    unpinned = deployment.run("--check")
    assert unpinned.returncode == 1
    assert "compose.cluster.yaml: postgres:17 has no digest" in unpinned.stdout
    assert deployment.run().returncode == 0
    assert sorted(deployment.asked) == sorted(THEIRS)
    assert deployment.run("--check").stdout.splitlines() == [
        f"{file}: image-bot has no digest"
        for file in ("compose.yaml", "compose.cluster.yaml", *["deploy/kubernetes.yaml"] * 2)
    ]
    assert deployment.run("--own", OWN).returncode == 0
    assert deployment.images == {f"{name}@{DIGEST}" for name in THEIRS} | {OWN}
    assert "build: ." not in deployment.text
    assert deployment.run("--check").stdout == "every image has its digest\n"


def test_a_later_run_writes_what_the_tag_means_then(deployment: Deployment) -> None:
    deployment.run()
    deployment.registry_says(LATER)
    assert deployment.run().returncode == 0
    assert deployment.images == {f"{name}@{LATER}" for name in THEIRS} | {"image-bot"}


@pytest.mark.parametrize(
    ("digest", "status", "sentence"),
    [("", 1, "is not known: not found"), ("latest", 0, "is not of the form NAME@sha256")],
)
def test_without_an_answer_no_file_changes(deployment: Deployment, digest: str, status: int, sentence: str) -> None:
    before = deployment.text
    deployment.registry_says(digest, status=status)
    refused = deployment.run()
    assert refused.returncode == 1
    assert sentence in refused.stderr
    assert deployment.text == before


def test_a_tag_is_not_taken_for_the_own_digest(deployment: Deployment) -> None:
    before = deployment.text
    assert deployment.run("--own", "ghcr.io/someone/image-bot:v1").returncode == 1
    assert deployment.text == before


def test_a_release_is_made_of_files_that_were_checked() -> None:
    workflow = (PROJECT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    steps = re.findall(r"^      - run: (.+)$", workflow, re.MULTILINE)
    pinned, built, own, checked, released = (
        next(number for number, step in enumerate(steps) if step.startswith(words))
        for words in (
            "python .ci/pin_images.py",
            "docker buildx build --push",
            "python .ci/pin_images.py --own",
            "python .ci/pin_images.py --check",
            "gh release create",
        )
    )
    assert pinned < built < own < checked < released
