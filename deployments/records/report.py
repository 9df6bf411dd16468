"""An ingress replica's report as it travels: decisions are encoded once, by their sender, for good."""

import msgspec

from deployments.records.records import DecisionRecord, OutcomeRecord
from policies.scaling import Planned

encode_record = msgspec.msgpack.Encoder().encode


class DecisionRow(msgspec.Struct, array_like=True, frozen=True):
    """A decision as the store keeps it: what is asked for by column, and the record in MessagePack."""

    decision_id: str
    created_s: float
    key_id: str
    model: str
    record: bytes


class Report(msgspec.Struct, array_like=True, frozen=True):
    """The arguments of Table.report_ingress."""

    ingress: str
    sequence: int
    in_flight: dict[str, int]
    decisions: list[DecisionRow]
    outcomes: list[OutcomeRecord]
    url: str = ""
    planned: dict[str, Planned] = {}


def decision_row(record: DecisionRecord) -> DecisionRow:
    """A decision, encoded."""
    return DecisionRow(
        record.decision_id, record.created_s, record.key_id, record.model, encode_record(record)
    )


encode_report = msgspec.msgpack.Encoder().encode
decode_report = msgspec.msgpack.Decoder(Report).decode
