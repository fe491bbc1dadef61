"""Puts together what follows a hub's roll-outs: the slots of this device, its class, its sessions and its network."""

from __future__ import annotations

from edge import app
from edge.config import Config
from edge.inference import trial
from edge.sync import network
from edge.sync.rollout import Follower


def follower(config: Config) -> Follower | None:
    """What follows the roll-outs of a hub with this device's slots; None unless the configuration wants that."""
    if config.sync.model_updates == "off":
        return None

    def metered() -> bool:
        return config.sync.metered_sends != "everything" and network.is_metered(config.sync.metered)

    def unfinished() -> str:
        waiting = (session.id for session, phase in app.sessions(config) if phase not in {"finished", "aborted"})
        return next(waiting, "")

    return Follower(
        app.model_slots(config),
        config.sync.model_updates,
        lambda: app.device_class(config),
        trial.prove,
        unfinished=unfinished,
        metered=metered,
        configured=config.bundle,
    )
