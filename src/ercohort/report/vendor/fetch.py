"""Fetch the JavaScript libraries of the report from npm and note what was fetched: `python fetch.py`.

Needs `npm`. The versions are fixed here; `vendored.json` gets the version, licence and SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent

PACKAGES = {
    "tabulator-tables": ("6.5.3", "MIT", {
        "dist/js/tabulator.min.js": "tabulator.min.js",
        "dist/css/tabulator_simple.min.css": "tabulator.min.css",
        "LICENSE": "LICENSE.tabulator.txt",
    }),
    "openseadragon": ("6.1.1", "BSD-3-Clause", {
        "build/openseadragon/openseadragon.min.js": "openseadragon.min.js",
        "LICENSE.txt": "LICENSE.openseadragon.txt",
    }),
}  # fmt: skip
"""By name on npm: version, licence, and which file of the package becomes which file here."""


def main() -> None:
    """Fetch every package and write `vendored.json`."""
    noted = []
    for name, (version, licence, files) in PACKAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            spec = f"{name}@{version}"
            subprocess.run(
                ["npm", "pack", "--silent", spec], cwd=folder, check=True, stdout=subprocess.DEVNULL
            )
            (archive,) = Path(folder).glob("*.tgz")
            with tarfile.open(archive) as packed:
                for source, target in files.items():
                    member = packed.extractfile(f"package/{source}")
                    assert member is not None, f"{spec} has no {source}"
                    (FOLDER / target).write_bytes(member.read())
        sums = {
            target: hashlib.sha256((FOLDER / target).read_bytes()).hexdigest() for target in files.values()
        }
        noted.append({"name": name, "version": version, "licence": licence, "sha256": sums})
    (FOLDER / "vendored.json").write_text(json.dumps(noted, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
