"""Laws 1 to 5 of docs/architecture.md: who may import whom."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
import syntax

FRAMEWORKS = (
    "tensorflow",
    "keras",
    "tf_keras",
    "torch",
    "jax",
    "tensorflow_model_optimization",
    "training",
    "quantization",
)
HEAVY = (
    *(
        "picamera2",
        "libcamera",
        "gi",
        "tensorrt",
        "onnxruntime",
        "ai_edge_litert",
        "tflite_runtime",
        "nicegui",
        "fastapi",
    ),
    *(
        "starlette",
        "uvicorn",
        "sqlalchemy",
        "alembic",
        "httpx",
        "pydantic",
        "scipy",
        "sklearn",
        "skimage",
        "matplotlib",
    ),
)
TOUCHES_THE_WORLD = (
    *(
        "socket",
        "ssl",
        "subprocess",
        "sqlite3",
        "urllib",
        "http",
        "asyncio",
        "shutil",
        "tempfile",
        "pathlib",
        "io",
        "logging",
    ),
)
# `leuko train` and `leuko quantize` hand over to the kit, which a device does not have.
DOORS_TO_TRAINING = ("edge.cli.train", "edge.cli.quantize", "edge.cli.quantize_onnx")
READS_THE_WORLD = {"edge.core.durable", "edge.core.clock"}


def every(*packages: str) -> list[syntax.Import]:
    return [found for path in syntax.files(*packages) for found in syntax.imports(path)]


def test_the_reader_sees_every_way_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edge" / "core").mkdir(parents=True)
    (tmp_path / "edge" / "core" / "types.py").touch()
    example = tmp_path / "edge" / "example.py"
    example.write_text(
        "import numpy as np\nfrom .core import types\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def f():\n    import keras.ops\n    importlib.import_module('tensorflow')\n"
    )
    monkeypatch.setattr(syntax, "ROOT", tmp_path)
    found = {(each.module, each.lazy, each.typing) for each in syntax.imports(example)}
    assert found == {
        ("numpy", False, False),
        ("edge.core.types", False, False),
        ("typing", False, False),
        ("torch", False, True),
        ("keras.ops", True, False),
        ("tensorflow", True, False),
    }


def test_law_1_the_core_imports_the_standard_library_and_numpy() -> None:
    allowed = (*sys.stdlib_module_names, "numpy", "edge.core")
    assert [str(found) for found in every("edge/core") if not syntax.within(found.module, *allowed)] == []


def test_law_1_only_clock_and_durable_touch_the_world() -> None:
    pure = [path for path in syntax.files("edge/core") if syntax.name_of(path) not in READS_THE_WORLD]
    assert pure
    imported = [
        str(found) for path in pure for found in syntax.imports(path) if syntax.within(found.module, *TOUCHES_THE_WORLD)
    ]
    opened = [
        f"{syntax.name_of(path)}:{node.lineno} calls {syntax.called_name(node)}"
        for path in pure
        for node in ast.walk(syntax.tree(path))
        if isinstance(node, ast.Call) and syntax.called_name(node) in {"open", "input", "print"}
    ]
    assert imported + opened == []


def test_law_2_the_device_side_imports_no_training_framework() -> None:
    found = [each for each in every("edge", "devices") if syntax.within(each.module, *FRAMEWORKS)]
    assert [str(each) for each in found if not syntax.within(each.importer, *DOORS_TO_TRAINING)] == []


def test_law_2_the_doors_to_training_open_when_asked_alone() -> None:
    found = [each for each in every("edge/cli") if syntax.within(each.importer, *DOORS_TO_TRAINING)]
    frameworks = [each for each in found if syntax.within(each.module, *FRAMEWORKS)]
    assert [str(each) for each in frameworks if not each.lazy] == []
    assert [str(each) for each in frameworks if not syntax.within(each.module, "training", "quantization")] == []


def test_a_device_never_imports_what_makes_releases() -> None:
    """It holds keys and needs more of TUF: only the command that makes releases reaches for it, and when asked."""
    outside = [each for each in every("edge", "devices") if not syntax.within(each.importer, "edge.bundle.release")]
    reaching = [each for each in outside if syntax.within(each.module, "edge.bundle.release")]
    assert {each.importer for each in reaching} == {"edge.cli.model.release"}
    assert [str(each) for each in reaching if not each.lazy and not each.typing] == []


def test_law_3_the_training_side_takes_the_shared_truths_alone() -> None:
    allowed = ("edge.core", "edge.imaging", "edge.bundle", "edge.files", "edge.inference")
    found = [each for each in every("training", "quantization") if syntax.within(each.module, "edge")]
    assert [str(each) for each in found if not syntax.within(each.module, *allowed)] == []


def test_law_3_the_training_side_takes_cells_and_runtimes_of_the_devices_alone() -> None:
    allowed = ("devices.cameras", "devices.runtimes")
    found = [each for each in every("training", "quantization") if syntax.within(each.module, "devices")]
    assert [str(each) for each in found if not syntax.within(each.module, *allowed)] == []


def test_law_4_devices_know_protocols_not_the_application() -> None:
    allowed = ("edge.core", "edge.imaging", "edge.files")
    found = [each for each in every("devices") if syntax.within(each.module, "edge")]
    assert [str(each) for each in found if not syntax.within(each.module, *allowed)] == []


def test_law_4_only_the_composition_root_names_a_device() -> None:
    named = [each for each in every("edge") if syntax.within(each.module, "devices") and not each.typing]
    assert [str(each) for each in named if each.importer != "edge.app"] == []
    assert [str(each) for each in named if not each.lazy] == []


def test_law_5_optional_imports_wait_until_they_are_needed() -> None:
    eager = [each for each in every("edge", "devices") if not each.lazy and not each.typing]
    heavy = [each for each in eager if syntax.within(each.module, *HEAVY)]
    # The room of the page is nothing else than its stack; nobody reaches it before it is served, as the next test says.
    page = [each for each in heavy if syntax.within(each.importer, "edge.web")]
    assert {str(each) for each in page if not syntax.within(each.module, "starlette", "uvicorn")} == set()
    # The hub is a server's: nobody else imports it, see below.
    hub = [each for each in heavy if syntax.within(each.importer, "edge.hub")]
    of_the_hub = ("fastapi", "starlette", "sqlalchemy", "alembic", "pydantic")
    assert [str(each) for each in hub if not syntax.within(each.module, *of_the_hub)] == []
    assert [str(each) for each in heavy if each not in page and each not in hub] == []


def test_law_5_the_hub_waits_until_it_is_asked_for() -> None:
    outside = [each for each in every("edge", "devices") if not syntax.within(each.importer, "edge.hub")]
    reaching = [each for each in outside if syntax.within(each.module, "edge.hub") and not each.typing]
    assert {each.importer for each in reaching} == {"edge.cli.hub"}
    assert [str(each) for each in reaching if not each.lazy] == []


def test_law_5_the_page_waits_until_it_is_served() -> None:
    outside = [each for each in every("edge", "devices") if not syntax.within(each.importer, "edge.web")]
    reaching = [each for each in outside if syntax.within(each.module, "edge.web")]
    assert {each.importer for each in reaching} == {"edge.cli.serve"}
    assert [str(each) for each in reaching if not each.lazy] == []


def test_rooms_below_do_not_reach_up() -> None:
    """The flow goes one way: imaging knows no bundle, the store no report, and nothing knows the command line."""
    above = {
        "edge/imaging": (
            "edge.bundle",
            "edge.inference",
            "edge.store",
            "edge.report",
            "edge.session",
            "edge.app",
            "edge.cli",
        ),
        "edge/bundle": ("edge.inference", "edge.store", "edge.report", "edge.session", "edge.app", "edge.cli"),
        "edge/inference": ("edge.store", "edge.report", "edge.session", "edge.app", "edge.cli"),
        "edge/store": ("edge.imaging", "edge.inference", "edge.report", "edge.session", "edge.app", "edge.cli"),
        "edge/report": ("edge.store", "edge.session", "edge.app", "edge.cli"),
    }
    found = [
        str(each) for room, forbidden in above.items() for each in every(room) if syntax.within(each.module, *forbidden)
    ]
    assert found == []
