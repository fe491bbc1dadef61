"""Slots, probation, the three failures that stop, and the envelope of allowed changes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import bundles
import msgspec
import pytest
from releases import Device, Lab, check_whole, copy, tree

pytest.importorskip("tuf")

from edge.bundle import envelope, manifest, probation
from edge.bundle.release import repository
from edge.bundle.slots import Slots
from edge.core.errors import BundleError, StoreError
from edge.inference import trial

SHIPPED = "wbc-student"
WRONG = BundleError("golden-not-reproduced", "The network is wrong.", "none")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.start(tmp_path_factory.mktemp("lab") / "lab")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        made.release(version)
    return made


@pytest.fixture
def device(lab: Lab, tmp_path: Path) -> Device:
    return Device.provisioned(tmp_path / "models", lab.root_file())


def analyse(device: Device, *, fails: bool = False, error: Exception | None = None) -> str:
    """What `edge.app.open_classifier` does, without a network: the bundle that is used in the end."""
    watch = probation.Watch(device.slots)
    for number, candidate in enumerate(watch.candidates()):
        if fails and number == 0:
            watch.refused(candidate, WRONG)
            continue
        with watch.running(candidate):
            if error is not None:
                raise error
        return str(manifest.load(candidate.folder).identity)
    raise AssertionError


def install_and_activate(device: Device, lab: Lab, version: str = "", **more: Any) -> None:
    device.install(lab.repo, version)
    device.activate(**more)


def test_a_device_starts_with_the_bundle_of_the_package(device: Device) -> None:
    assert device.active.startswith(SHIPPED)
    assert analyse(device).startswith(SHIPPED)
    for refused, code in ((device.activate, "nothing-staged"), (device.rollback, "nothing-to-roll-back")):
        with pytest.raises(BundleError) as caught:
            refused()
        assert caught.value.code == code


def test_two_slots_take_turns(device: Device, lab: Lab) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        install_and_activate(device, lab, version, probation=1)
        assert analyse(device) == device.active == f"small@{version}"
    assert {path.name for path in (device.slots.folder / "slots").iterdir()} == {"a", "b"}
    state = device.slots.load()
    assert [event.what for event in state.events] == ["installed", "activated", "passed"] * 3
    device.rollback()
    assert device.active == "small@1.1.0"
    device.activate()
    assert device.active == "small@1.2.0"
    device.rollback(to_package=True)
    assert device.active.startswith(SHIPPED)


def test_the_previous_bundle_stays_until_the_next_has_passed(device: Device, lab: Lab) -> None:
    install_and_activate(device, lab, "1.0.0", probation=1)
    analyse(device)
    install_and_activate(device, lab, "1.1.0", probation=1)
    with device.refusing("probation-running"):
        device.install(lab.repo)
    analyse(device)
    assert device.install(lab.repo).bundle == "small@1.2.0"


def test_a_bundle_that_fails_its_probation_is_left(device: Device, lab: Lab) -> None:
    install_and_activate(device, lab, "1.0.0", probation=2)
    analyse(device)
    analyse(device)
    install_and_activate(device, lab, "1.1.0")
    assert analyse(device, fails=True) == "small@1.0.0" == device.active
    state = device.slots.load()
    assert state.failures == 1 and state.probation == 0 and state.name(state.staged) == "small@1.1.0"
    assert state.events[-1].what == "rolled-back" and "wrong" in state.events[-1].why


def test_an_error_of_the_bundle_during_an_analysis_counts(device: Device, lab: Lab) -> None:
    install_and_activate(device, lab)
    with pytest.raises(BundleError):
        analyse(device, error=WRONG)
    assert device.active.startswith(SHIPPED)


@pytest.mark.parametrize("error", [StoreError("disk-full", "full", "free"), ValueError("x")])
def test_other_errors_count_neither_for_nor_against(device: Device, lab: Lab, error: Exception) -> None:
    install_and_activate(device, lab, probation=3)
    with pytest.raises(type(error)):
        analyse(device, error=error)
    assert device.active == "small@1.2.0" and device.slots.load().probation == 3
    assert not list((device.slots.folder / "attempts").iterdir())


def test_three_failures_in_a_row_stop_the_loop(device: Device, lab: Lab) -> None:
    device.install(lab.repo)
    for _ in range(3):
        device.activate()
        assert analyse(device, fails=True).startswith(SHIPPED)
    with device.refusing("activation-stopped"):
        device.activate()
    assert "3 activations" in device.slots.describe_stop()
    device.activate(insist=True, probation=1)
    assert analyse(device) == "small@1.2.0"
    assert device.slots.describe_stop() == ""


def test_success_ends_a_row_of_failures(device: Device, lab: Lab) -> None:
    device.install(lab.repo)
    for _ in range(2):
        device.activate()
        analyse(device, fails=True)
    device.activate(probation=1)
    analyse(device)
    assert device.slots.load().failures == 0


def killed_during_an_analysis(device: Device, number: signal.Signals = signal.SIGKILL) -> None:
    child = os.fork()
    if child == 0:
        try:
            if number != signal.SIGKILL:
                signal.signal(number, signal.SIG_DFL)  # a background job of a shell may ignore it
            watch = probation.Watch(device.slots)
            with watch.running(next(watch.candidates())):
                os.kill(os.getpid(), number)
                signal.pause()
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_crash_on_probation_rolls_back(device: Device, lab: Lab) -> None:
    install_and_activate(device, lab)
    killed_during_an_analysis(device)
    assert analyse(device).startswith(SHIPPED)
    state = device.slots.load()
    assert state.failures == 1 and "died" in state.events[-1].why
    assert not list((device.slots.folder / "attempts").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_service_that_is_stopped_has_not_crashed(device: Device, lab: Lab, number: signal.Signals) -> None:
    install_and_activate(device, lab, probation=3)
    killed_during_an_analysis(device, number)
    assert analyse(device) == "small@1.2.0"
    assert device.slots.load().probation == 2


def test_a_power_cut_on_probation_does_not(device: Device, lab: Lab) -> None:
    install_and_activate(device, lab, probation=3)
    killed_during_an_analysis(device)
    (attempt,) = (device.slots.folder / "attempts").iterdir()
    attempt.write_text(json.dumps({**json.loads(attempt.read_text()), "boot": "before the power failed"}))
    assert analyse(device) == "small@1.2.0"
    assert device.slots.load().probation == 2


def test_an_analysis_that_still_runs_is_no_crash(device: Device, lab: Lab) -> None:
    install_and_activate(device, lab, probation=5)
    watch = probation.Watch(device.slots)
    with watch.running(next(watch.candidates())):
        assert analyse(device) == "small@1.2.0"
    assert device.slots.load().probation == 3


def test_a_crash_after_the_probation_changes_nothing(device: Device, lab: Lab) -> None:
    install_and_activate(device, lab, probation=1)
    analyse(device)
    killed_during_an_analysis(device)
    assert analyse(device) == "small@1.2.0"


def test_a_slot_that_rots_is_not_activated_nor_rolled_back_to(device: Device, lab: Lab) -> None:
    install_and_activate(device, lab, "1.0.0", probation=1)
    analyse(device)
    install_and_activate(device, lab, "1.1.0")
    (device.slots.folder / "slots" / "a" / "golden.npz").write_bytes(b"rot")
    device.rollback()
    assert device.active.startswith(SHIPPED)
    (device.slots.folder / "slots" / "b" / "golden.npz").write_bytes(b"rot")
    with pytest.raises(BundleError) as caught:
        device.activate()
    assert caught.value.code == "bundle-damaged"
    assert device.active.startswith(SHIPPED)


def test_another_manifest_in_a_slot_is_seen(device: Device, lab: Lab) -> None:
    device.install(lab.repo)
    bundles.rewrite(device.slots.folder / "slots" / "a", lambda values: values.update(limits="none at all"))
    with pytest.raises(BundleError) as caught:
        device.activate()
    assert caught.value.code == "bundle-damaged"


def test_a_trial_that_fails_leaves_all_as_it_was(device: Device, lab: Lab) -> None:
    def wrong(_: Path) -> None:
        raise WRONG

    with device.refusing("golden-not-reproduced"):
        device.install(lab.repo, trial=wrong)
    device.install(lab.repo)
    with device.refusing("golden-not-reproduced"):
        device.activate(wrong)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"schema": 2}', b'{"active": "a"}', b'{"active": "c"}', b"\xff"])
def test_a_damaged_state_leaves_the_bundle_of_the_package(device: Device, lab: Lab, text: bytes) -> None:
    install_and_activate(device, lab)
    (device.slots.folder / "state.json").write_bytes(text)
    assert device.active.startswith(SHIPPED)
    assert analyse(device).startswith(SHIPPED)
    with device.refusing("slots-damaged"):
        device.install(lab.repo)
    (device.slots.folder / "state.json").unlink()
    install_and_activate(device, lab)
    assert device.active == "small@1.2.0"


def test_two_processes_do_not_change_the_slots_at_once(device: Device, lab: Lab) -> None:
    device.install(lab.repo)
    with device.slots.locked(), pytest.raises(BundleError) as caught:
        device.activate()
    assert caught.value.code == "models-busy"


def test_what_an_interrupted_installation_left_is_swept(device: Device, lab: Lab) -> None:
    (device.slots.staging / "unpacked").mkdir(parents=True)
    (device.slots.staging / "unpacked" / "manifest.json").write_text("{}")
    device.install(lab.repo)
    assert not device.slots.staging.exists()


def test_installing_again_fetches_nothing(device: Device, lab: Lab) -> None:
    device.install(lab.repo)
    before = tree(device.slots.folder)
    assert device.install(lab.repo) is None
    assert tree(device.slots.folder) == before


def test_an_older_version_is_installed_only_by_its_number(device: Device, tmp_path: Path) -> None:
    lab = Lab.start(tmp_path / "other")
    lab.release("1.2.0")
    device = Device.provisioned(tmp_path / "other-models", lab.root_file())
    install_and_activate(device, lab, probation=1)
    analyse(device)
    lab.release("1.0.0")
    repository.remove(lab.opened, "small@1.2.0")
    lab.sign()
    lab.publish()
    assert device.install(lab.repo) is None
    assert device.install(lab.repo, "1.0.0").bundle == "small@1.0.0"


# The trial in a child process.


def test_the_trial_in_a_child_passes_a_sound_bundle_and_says_what_is_wrong_with_another(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    folder = bundles.build(tmp_path / "bundle")
    trial.prove(folder)
    (folder / "golden.npz").write_bytes(b"rot")
    with pytest.raises(BundleError, match=r"golden\.npz") as caught:
        trial.prove(folder)
    assert caught.value.code == "trial-failed"


def test_a_trial_has_its_time(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        trial.prove(bundles.build(tmp_path / "bundle"), timeout=0.01)
    assert caught.value.code == "trial-too-slow"


# The envelope.


def with_envelope(folder: Path, **values: Any) -> manifest.Manifest:
    texts = dict.fromkeys(("modifications", "protocol", "impact"), "as agreed")
    stated = {**texts, "recall_drop": 0.02, "balanced_accuracy_drop": 0.02, **values}
    bundles.rewrite(folder, lambda found: found.update(envelope=stated))
    return manifest.load(folder)


def changed(found: manifest.Manifest, recall: float = 0.5, balanced: float = 0.5, **values: Any) -> manifest.Manifest:
    (figures,) = found.figures
    replace = msgspec.structs.replace
    new = replace(figures.recall["neutrophil"], value=recall, low=0.0, high=1.0)
    figures = replace(figures, balanced_accuracy=balanced, recall={"neutrophil": new})
    return replace(found, figures=(figures,), **values)


def test_the_envelope_names_what_exceeds_it(tmp_path: Path) -> None:
    active = with_envelope(bundles.build(tmp_path / "bundle"))
    assert envelope.excess(active, active) == ()
    assert envelope.excess(active, changed(active, 0.48, 0.48)) == ()
    assert envelope.excess(active, changed(active, 0.9, 0.9, version="2.0.0")) == ()
    assert "recall of neutrophil" in envelope.excess(active, changed(active, 0.47))[0]
    assert "balanced accuracy" in envelope.excess(active, changed(active, balanced=0.47))[0]
    assert "name" in envelope.excess(active, changed(active, name="another"))[0]
    assert "no figures" in envelope.excess(active, msgspec.structs.replace(active, figures=()))[0]
    finer = msgspec.structs.replace(active.preprocessing, margin=4.0)
    assert "crops" in envelope.excess(active, changed(active, preprocessing=finer))[0]
    free = msgspec.structs.replace(active, envelope=None)
    assert envelope.excess(free, changed(active, 0.0, 0.0)) == ()


def test_a_change_outside_the_envelope_needs_a_reason(tmp_path: Path) -> None:
    lab = Lab.start(tmp_path / "lab")
    with_envelope(lab.bundle("1.0.0"))
    lab.release("1.0.0")
    device = Device.provisioned(tmp_path / "models", lab.root_file())
    install_and_activate(device, lab, probation=1)
    analyse(device)
    lab.release("1.1.0", lambda values: values["figures"][0].update(balanced_accuracy=0.3))
    device.install(lab.repo)
    with device.refusing("outside-envelope"):
        device.activate()
    device.activate(beyond="validated anew, report 12")
    assert device.active == "small@1.1.0"
    assert "report 12" in next(event.why for event in device.slots.load().events if event.what == "envelope-exceeded")


# The device's class.


@pytest.mark.parametrize(("profile", "name"), [("raspberry_pi_5", "raspberry-pi-5"), ("generic", "generic-")])
def test_the_class_of_a_device_is_its_profile(profile: str, name: str) -> None:
    from edge import app, config

    found = app.device_class(config.load(environment={"LEUKO_PROFILE": profile}))
    assert found.startswith(name) and (found == name or profile == "generic")


def test_a_copied_device_is_a_device(device: Device, lab: Lab, tmp_path: Path) -> None:
    install_and_activate(device, lab)
    other = Device(Slots(copy(device.slots.folder, tmp_path / "other")))
    assert other.active == "small@1.2.0"
    check_whole(other.slots.in_use().folder)
