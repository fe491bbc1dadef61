"""What a device does with a roll-out, and when not: with small bundles and a laboratory in a folder."""

from __future__ import annotations

import datetime
import functools
import http.server
import ssl
import threading
from pathlib import Path

import pytest
import releases
from test_sync_device import authority

from edge.core.errors import BundleError
from edge.sync.messages import WantedRelease
from edge.sync.rollout import Follower

pytest.importorskip("tuf")


class Site:
    """A device, and what its surroundings say."""

    def __init__(self, folder: Path, lab: releases.Lab, mode: str = "activate", configured: str = "") -> None:
        self.device = releases.Device.provisioned(folder, lab.root_file())
        self.lab, self.session, self.metered = lab, "", False
        self.trials = 0
        self.follower = Follower(
            self.device.slots,
            mode,  # type: ignore[arg-type]
            lambda: releases.DEVICE,
            self.trial,
            unfinished=lambda: self.session,
            metered=lambda: self.metered,
            configured=configured,
        )
        # The device came with version 1.0.0 of the bundle.
        self.device.install(lab.repo, "1.0.0")
        self.device.activate(probation=1)

    def trial(self, folder: Path) -> None:
        self.trials += 1
        releases.check_whole(folder)

    def ask(self, version: str, rollout: str = "r-1", source: str = "", ca_file: str = "") -> tuple[str, str]:
        wanted = WantedRelease(f"small@{version}", rollout)
        self.news = self.follower.follow(wanted, source or str(self.lab.repo), ca_file)
        found = self.follower.outcome()
        assert found is not None
        return found.state, found.code

    def end_probation(self) -> None:
        import msgspec

        with self.device.slots.locked():
            self.device.slots.save(msgspec.structs.replace(self.device.slots.load(), probation=0))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> releases.Lab:
    made = releases.Lab.start(tmp_path_factory.mktemp("lab") / "lab")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        made.release(version)
    return made


@pytest.fixture
def site(lab: releases.Lab, tmp_path: Path) -> Site:
    made = Site(tmp_path / "device", lab)
    made.end_probation()
    return made


def test_a_roll_out_is_carried_out_once(site: Site) -> None:
    assert site.ask("1.1.0") == ("active", "") and site.news and site.device.active == "small@1.1.0"
    trials = site.trials
    assert site.ask("1.1.0") == ("active", "") and not site.news and site.trials == trials
    site.end_probation()
    # What the slots say is in the device's report of each contact already: that is no news after it.
    assert site.ask("1.1.0") == ("passed", "") and not site.news
    assert site.ask("1.1.0") == ("passed", "") and not site.news
    # Another rule for what is in use already is done as it is asked.
    assert site.ask("1.1.0", "r-2") == ("passed", "") and site.trials == trials


def test_the_next_waits_for_the_end_of_the_probation(site: Site) -> None:
    assert site.ask("1.1.0") == ("active", "")
    assert site.ask("1.2.0", "r-2") == ("postponed", "probation-running")
    site.end_probation()
    assert site.ask("1.2.0", "r-2") == ("active", "") and site.device.active == "small@1.2.0"


def test_what_is_in_the_way_is_looked_at_ever_more_seldom(site: Site) -> None:
    site.metered = True
    looked = []
    for contact in range(60):
        site.metered = True
        before = site.follower._load()
        site.ask("1.1.0")
        after = site.follower._load()
        if before is None or before.attempts != after.attempts:
            looked.append(contact)
    assert looked == [0, 1, 4, 11, 26, 57]
    assert site.device.active == "small@1.0.0"


@pytest.mark.parametrize("code", ["session-unfinished", "network-metered"])
def test_a_session_and_a_network_that_costs_are_waited_for(site: Site, code: str) -> None:
    site.session, site.metered = ("s-1", False) if code == "session-unfinished" else ("", True)
    assert site.ask("1.1.0") == ("postponed", code)
    assert site.trials == 0 and site.device.active == "small@1.0.0"
    site.session, site.metered = "", False
    assert site.ask("1.1.0") == ("active", "")


def test_a_session_that_begins_while_a_bundle_is_proven_is_seen(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(folder: Path) -> None:
        site.trials += 1
        site.session = "s-2" if site.trials == 2 else ""

    monkeypatch.setattr(site.follower, "_trial", trial)
    assert site.ask("1.1.0") == ("postponed", "session-unfinished")
    assert site.device.active == "small@1.0.0"
    site.session = ""
    monkeypatch.setattr(site.follower, "_trial", releases.check_whole)
    assert site.ask("1.1.0") == ("active", "")  # it was installed, and is not fetched again


def test_a_bundle_that_fails_is_not_tried_again_by_the_same_roll_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(_: Path) -> None:
        site.trials += 1
        raise BundleError("trial-failed", "3 of 16 golden vectors differ.", "Tell those who release.")

    monkeypatch.setattr(site.follower, "_trial", trial)
    assert site.ask("1.1.0") == ("failed", "trial-failed")
    assert site.ask("1.1.0") == ("failed", "trial-failed") and site.trials == 1 and not site.news
    assert site.ask("1.1.0", "r-2") == ("failed", "trial-failed") and site.trials == 2
    assert site.device.active == "small@1.0.0"


def test_a_rollback_is_told_and_an_old_one_is_not_told_again(site: Site) -> None:
    assert site.ask("1.1.0") == ("active", "")
    site.device.rollback("monocytes look wrong")
    assert site.ask("1.1.0") == ("rolled-back", "rolled-back")
    assert site.ask("1.1.0") == ("rolled-back", "rolled-back") and not site.news
    assert site.ask("1.1.0", "r-2") == ("active", "")  # asked for anew, it is tried anew


def test_a_person_may_go_another_way(lab: releases.Lab, site: Site) -> None:
    assert site.ask("1.1.0") == ("active", "")
    site.end_probation()
    site.follower.follow(WantedRelease("small@1.1.0", "r-1"), str(lab.repo))
    site.device.install(lab.repo, "1.2.0")
    site.device.activate()
    assert site.ask("1.1.0") == ("passed", "")  # what passed has passed
    assert site.ask("1.1.0", "r-2") == ("refused", "not-later")


def test_a_hub_decides_neither_the_name_nor_against_the_configuration(lab: releases.Lab, tmp_path: Path) -> None:
    site = Site(tmp_path / "device", lab, configured="/models/mine")
    assert site.ask("1.1.0") == ("refused", "bundle-configured")
    site = Site(tmp_path / "other", lab)
    site.end_probation()
    for asked, code in (("small@0.9.0", "not-later"), ("small@nonsense", "not-later"), ("large@2.0.0", "other-bundle")):
        site.follower.follow(WantedRelease(asked, f"r-{asked}"), str(lab.repo))
        found = site.follower.outcome()
        assert found is not None and (found.state, found.code) == ("refused", code)
    assert site.follower.follow(WantedRelease(None, None), str(lab.repo)) is False
    # What is remembered may be damaged: it is asked for anew, and nothing in place changes.
    (site.device.slots.folder / "rollout.json").write_text("{")
    assert site.follower.outcome() is None and site.ask("1.1.0") == ("active", "")


def test_where_a_person_activates(lab: releases.Lab, tmp_path: Path) -> None:
    site = Site(tmp_path / "device", lab, "install")
    site.end_probation()
    assert site.ask("1.1.0") == ("installed", "") and site.device.active == "small@1.0.0"
    assert site.ask("1.1.0") == ("installed", "") and not site.news
    site.device.activate(probation=1)
    assert site.ask("1.1.0") == ("active", "")


def test_a_hub_with_its_own_authority(lab: releases.Lab, site: Site, tmp_path: Path) -> None:
    day = datetime.timedelta(days=1)
    pem, private = authority(tmp_path, -day, day)
    handler = functools.partial(_Quiet, directory=str(lab.repo))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_address[1]}"
    try:
        assert site.ask("1.1.0", "r-1", url) == ("postponed", "release-unreachable")  # a certificate of nobody
        assert site.ask("1.1.0", "r-2", url, str(tmp_path / "none.pem")) == ("postponed", "release-unreachable")
        assert site.ask("1.1.0", "r-3", url, str(pem)) == ("active", "")
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""
