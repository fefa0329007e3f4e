"""Write the digest of every container image behind its tag, so that what is deployed cannot change under its name.

    python .ci/pin_images.py                             ask the registries, with Docker, and write the digests
    python .ci/pin_images.py --own NAME@sha256:DIGEST    put an image that was built in the place of the one to build
    python .ci/pin_images.py --check                     name each image without a digest; exit code 1 if there is any

Run it in the folder of the project. Every digest is asked for before a file is changed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

FILES = ("Dockerfile", "compose.yaml", "compose.cluster.yaml", "deploy/kubernetes.yaml")
OWN = "image-bot"
"""The image that the Dockerfile builds, as the other files call it."""

_IMAGE = re.compile(r"^(?P<key>FROM|[ -]*image:)[ ]+(?P<image>[^\s#]+)", re.MULTILINE)
_BUILT = re.compile(rf"^(?: *build: \.\n)?(?P<key> *(?:- )?image:) {OWN}$", re.MULTILINE)
_PINNED = re.compile(r"\S+@sha256:[0-9a-f]{64}")


def main(arguments: list[str]) -> int:
    """Run one of the calls above and return the exit code."""
    parser = argparse.ArgumentParser(description="Write the digests of container images.")
    calls = parser.add_mutually_exclusive_group()
    calls.add_argument("--own", metavar="IMAGE")
    calls.add_argument("--check", action="store_true")
    parsed = parser.parse_args(arguments)
    files = {Path(name): Path(name).read_text(encoding="utf-8") for name in FILES}
    if parsed.check:
        return check(files)
    if parsed.own is None:
        images = {found["image"] for text in files.values() for found in _IMAGE.finditer(text)} - {OWN}
        pinned = {image: with_digest(image) for image in sorted(images)}
        changed = {path: _IMAGE.sub(lambda found: _replaced(found, pinned), text) for path, text in files.items()}
    else:
        _require_digest(parsed.own)
        changed = {path: _BUILT.sub(rf"\g<key> {parsed.own}", text) for path, text in files.items()}
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")
    return 0


def check(files: dict[Path, str]) -> int:
    """Print each image without a digest. Return 1 if there is any."""
    missing = [
        f"{path}: {found['image']} has no digest"
        for path, text in files.items()
        for found in _IMAGE.finditer(text)
        if not _PINNED.fullmatch(found["image"])
    ]
    print("\n".join(missing) or "every image has its digest")
    return 1 if missing else 0


def with_digest(image: str) -> str:
    """Return `name:tag@digest` with the digest that the registry has for the tag now."""
    name = image.partition("@")[0]
    command = ["docker", "buildx", "imagetools", "inspect", name, "--format", "{{.Manifest.Digest}}"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        sys.exit(f"the digest of {name} is not known: {asked.stderr.strip()}")
    return _require_digest(f"{name}@{asked.stdout.strip()}")


def _require_digest(image: str) -> str:
    if not _PINNED.fullmatch(image):
        sys.exit(f"{image} is not of the form NAME@sha256:DIGEST")
    return image


def _replaced(found: re.Match[str], pinned: dict[str, str]) -> str:
    return f"{found['key']} {pinned.get(found['image'], found['image'])}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
