"""Ask for known vulnerabilities in a lock file; separate exit codes for 'found some' and 'could not ask'.

Exit code 0: asked, none known. 1: asked, some known. 3: the advisory service could not be asked, so nothing is known.
"""

from __future__ import annotations

import json
import subprocess
import sys


def main(lock: str) -> int:
    """Run pip-audit over `lock` without installing anything, and print the result in one sentence."""
    command = f"-m pip_audit --requirement {lock} --disable-pip --require-hashes --format json --timeout 10".split()
    audit = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(audit.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        # pip-audit also ends with 1 when it could not ask; only an answer on standard output tells the two apart.
        reason = (audit.stderr.strip().splitlines() or ["no answer"])[-1]
        print(f"Could not ask the advisory service, so nothing is known about {lock}: {reason[:200]}")
        return 3
    asked = [package for package in packages if "skip_reason" not in package]
    found = [(package, known) for package in asked for known in package.get("vulns", ())]
    for package, known in found:
        fixed = ", ".join(known["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {known['id']}, fixed in {fixed}")
    print(f"{lock}: {len(found)} known vulnerabilities; could ask about {len(asked)} of {len(packages)} packages")
    return 1 if found else 3 if len(asked) < len(packages) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
