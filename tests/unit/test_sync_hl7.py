"""HL7 v2 over MLLP: read back by two parsers that no one here wrote, acknowledged, refused, cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sent_results import Device, document, made

from edge.core.types import ClockReading
from edge.sync import hl7, service
from edge.sync.settings import Hl7Destination


class Receiver:
    """A receiver that answers with what `answer` makes of the message; None cuts the connection."""

    def __init__(self, answer: Callable[[str], str | None]) -> None:
        self.messages: list[str] = []
        self.answer = answer
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                opened, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(opened,), daemon=True).start()

    def talk(self, opened: socket.socket) -> None:
        data = b""
        with opened:
            while part := opened.recv(65536):
                data += part
                while b"\x1c\r" in data:
                    frame, _, data = data.partition(b"\x1c\r")
                    assert frame[:1] == b"\x0b"
                    text = frame[1:].decode("utf-8")
                    self.messages.append(text)
                    said = self.answer(text)
                    if said is None:
                        return
                    opened.sendall(b"\x0b" + said.encode() + b"\x1c\r")


def accept(text: str, code: str = "AA") -> str:
    control = text.split("\r", maxsplit=1)[0].split("|")[9]
    return f"MSH|^~\\&|LIS|LAB|LEUKOSCOPE||20261124||ACK^R01|1|P|2.5.1\rMSA|{code}|{control}|because\r"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver(accept)
    yield opened
    opened.socket.close()


def device_for(receiver: Receiver, folder: Path) -> Device:
    return Device(folder, destinations=(Hl7Destination("lis", "127.0.0.1", receiver.port, sending_facility="A|B"),))


def fields(text: str, name: str) -> list[list[str]]:
    return [line.split("|") for line in text.split("\r") if line.startswith(name + "|")]


def test_a_report_is_read_back_by_independent_parsers(receiver: Receiver, tmp_path: Path) -> None:
    library = pytest.importorskip("hl7", reason="hl7 is not installed")
    parser = pytest.importorskip("hl7apy.parser", reason="hl7apy is not installed")
    device = device_for(receiver, tmp_path / "d")
    record = made("S|1^&~\\é", operator="Dr O'Hara", document={**document("S|1"), "patient": "ab" * 20})
    device.save(record)
    with device.store() as store:
        store.sign(record.id, "Dr Cho")
    device.run()
    assert device.counts("lis") == {"delivered": 2}
    for text, status in zip(receiver.messages, ("P", "F"), strict=True):
        parsed = library.parse(text)
        assert str(parsed.segment("MSH")[9]) == "ORU^R01^ORU_R01" and str(parsed.segment("MSH")[12]) == "2.5.1"
        assert str(parsed.segment("PID")[3]) == "ab" * 20
        assert str(parsed.segment("OBR")[25]) == status
        observed = parsed.segments("OBX")
        assert [str(each[3]).split("^")[0] for each in observed] == [
            *("26511-6", "26478-8", "26485-3", "26450-7", "30180-4", "26471-3", "cells-counted")
        ]
        assert {str(each[11]) for each in observed} == {status}
        assert float(str(observed[0][5])) == 34.0 and str(observed[6][5]) == "200"
        assert library.parse(text).unescape(str(parsed.segment("SPM")[2])).startswith("S|1^&~\\é")
        assert parsed.unescape(str(parsed.segment("MSH")[4])) == "A|B"
        whole = parser.parse_message(text, find_groups=False)
        assert whole.msh.msh_9.msh_9_3.value == "ORU_R01" and len(whole.children.get("OBX")) == 7
    assert fields(receiver.messages[1], "OBR")[0][32] == "Dr Cho"
    assert receiver.messages[0].split("\r", 1)[0].split("|")[9] != receiver.messages[1].split("\r", 1)[0].split("|")[9]


def test_no_percentage_and_no_date_are_made_up(receiver: Receiver, tmp_path: Path) -> None:
    device = device_for(receiver, tmp_path / "d")
    clock = ClockReading("1970-01-01T00:00:00.000+00:00", 1.0, "boot", "unknown")
    device.save(made(document=document("S-1", 50), created=clock))
    device.run()
    observed = fields(receiver.messages[0], "OBX")
    assert [(each[5], each[11]) for each in observed[:6]] == [("", "X")] * 6
    assert fields(receiver.messages[0], "OBR")[0][7] == '""'
    assert "clock was not set" in receiver.messages[0]


@pytest.mark.parametrize("code", ["AE", "AR", "CE", "CR"])
def test_a_refusal_is_shown_to_a_person_and_holds_up_no_other(tmp_path: Path, code: str) -> None:
    receiver = Receiver(lambda text: accept(text, code if "S-bad" in text else "AA"))
    device = device_for(receiver, tmp_path / "d")
    device.save(made("S-bad"), made("S-good"))
    device.run()
    assert device.counts("lis") == {"refused": 1, "delivered": 1}
    assert "because" in service.conflicts(device.config)[0][0].message
    receiver.socket.close()


def test_a_lost_acknowledgement_repeats_the_same_message(tmp_path: Path) -> None:
    answers: Iterator[Any] = iter([None, "MSH|x\rMSA|AA|OTHER\r", "MSH|x\r"])
    receiver = Receiver(lambda text: next(answers, accept(text)))
    device = device_for(receiver, tmp_path / "d")
    device.save(made())
    device.run()
    assert device.counts("lis") == {"delivered": 1}
    assert len(receiver.messages) == 4 and len(set(receiver.messages)) == 1
    receiver.socket.close()


def test_nothing_leaves_this_machine_unencrypted(tmp_path: Path) -> None:
    from edge.sync.destinations.hl7 import Hl7Sender

    device = Device(tmp_path / "d")
    sender = Hl7Sender(Hl7Destination("lis", "192.0.2.7", 2575), service.site(device.config))
    assert sender._context is not None


def test_an_acknowledgement_is_read_or_not() -> None:
    assert hl7.read_acknowledgement(b"MSH|^~\\&\rMSA|AA|X1|fine\r") == hl7.Acknowledgement("AA", "X1", "fine")
    assert hl7.read_acknowledgement(b"hello") is None
    assert hl7.read_acknowledgement(b"\xff\xfeMSA|") is None
