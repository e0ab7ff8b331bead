"""Independent readers of our exports: Node tools, fetched once into build/."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PACKAGES = {"@playcanvas/splat-transform": "2.7.1", "gltf-validator": "2.0.0-dev.3.10", "three": "0.180.0"}


@pytest.fixture(scope="session")
def node_tools() -> Path:
    """A folder with `node_modules` that holds PACKAGES; skips where Node or the packages cannot be had."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node.js is not installed: the outside validators of our exports are npm packages")
    folder = REPO / "build" / "node"
    missing = [f"{name}@{v}" for name, v in PACKAGES.items() if not (folder / "node_modules" / name).is_dir()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}") if not (folder / "package.json").exists() else None
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *missing]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        if result.returncode:
            pytest.skip(f"npm could not fetch {', '.join(missing)}: {result.stderr.strip()[-200:]}")
    return folder


@pytest.fixture(scope="session")
def splat_transform(node_tools: Path) -> Callable[[Path, Path], None]:
    """Convert one splat file to another with PlayCanvas' splat-transform (a `.csv` gives the raw columns)."""
    program = node_tools / "node_modules/@playcanvas/splat-transform/bin/cli.mjs"

    def convert(source: Path, target: Path) -> None:
        command = ["node", str(program), "-q", "-w", "-g", "cpu", str(source), str(target)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stdout + result.stderr

    return convert


@pytest.fixture(scope="session")
def gltf_report(node_tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict]:
    """The Khronos validator's report on a `.glb`."""
    script = tmp_path_factory.mktemp("gltf") / "validate.cjs"
    script.write_text(
        f"const v = require({json.dumps(str(node_tools / 'node_modules/gltf-validator'))});\n"
        "const bytes = new Uint8Array(require('fs').readFileSync(process.argv[2]));\n"
        "v.validateBytes(bytes, {maxIssues: 0}).then(r => console.log(JSON.stringify(r)));\n"
    )

    def report(path: Path) -> dict:
        result = subprocess.run(["node", str(script), str(path)], capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return report
