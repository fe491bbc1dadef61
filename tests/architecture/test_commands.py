"""Laws 2 and 5 in a running program: what the command line really loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Stands first among the finders, so that even an installed framework cannot be imported.
BLOCKED_RUN = """
import sys

BLOCKED = {"tensorflow", "keras", "tf_keras", "torch", "jax", "training", "quantization"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked: the device side must not need it")
        return None

sys.meta_path.insert(0, Blocker())
from edge.cli.main import main
sys.argv = ["leuko", *sys.argv[1:]]
sys.exit(main())
"""

LOADED_BY_HELP = """
import sys

from edge.cli.main import main
sys.argv = ["leuko", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("\\nLOADED " + " ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def run(program: str, *arguments: str, root: Path, home: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "LEUKO_"))}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=home,
        env={**kept, "PYTHONPATH": str(root), "HOME": str(home), "NO_COLOR": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("command", ["--help", "doctor", "demo"])
def test_law_2_the_device_runs_without_a_training_framework(command: str, root: Path, tmp_path: Path) -> None:
    done = run(BLOCKED_RUN, command, root=root, home=tmp_path)
    assert "is blocked" not in done.stderr
    assert "Traceback" not in done.stderr
    # A doctor may find this machine unfit; it has then done its work.
    assert done.returncode in ({0, 1, 3} if command == "doctor" else {0}), done.stderr
    assert done.stdout.strip()


def test_the_block_holds(root: Path, tmp_path: Path) -> None:
    program = BLOCKED_RUN.partition("from edge.cli")[0] + "import tensorflow"
    done = run(program, root=root, home=tmp_path)
    assert done.returncode != 0
    assert "tensorflow is blocked" in done.stderr


def test_help_loads_nothing_heavy(root: Path, tmp_path: Path) -> None:
    done = run(LOADED_BY_HELP, root=root, home=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("LOADED ")[2].split())
    assert "edge" in loaded
    assert loaded.isdisjoint(
        {"cv2", "numpy", "PIL", "ai_edge_litert", "tflite_runtime", "onnxruntime", "sqlite3", "tuf"}
    )
    assert loaded.isdisjoint({"starlette", "uvicorn", "jinja2", "anyio", "asyncio"})
