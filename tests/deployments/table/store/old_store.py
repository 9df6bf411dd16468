"""A store as FastServe 0.1 wrote it, made without its code: that version's SQL, and its records."""

import sqlite3
from pathlib import Path

import msgspec

SCHEMA = """
CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE state (name VARCHAR NOT NULL, value BLOB NOT NULL, PRIMARY KEY (name));
CREATE TABLE decisions (decision_id VARCHAR NOT NULL, created_s FLOAT NOT NULL, key_id VARCHAR NOT NULL,
  model VARCHAR NOT NULL, record BLOB NOT NULL, PRIMARY KEY (decision_id));
CREATE INDEX ix_decisions_created_s ON decisions (created_s);
CREATE TABLE outcomes (sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, decision_id VARCHAR NOT NULL,
  finished_s FLOAT NOT NULL, model VARCHAR NOT NULL, status VARCHAR NOT NULL, record BLOB NOT NULL,
  UNIQUE (decision_id));
CREATE INDEX ix_outcomes_finished_s ON outcomes (finished_s);
CREATE TABLE evaluations (suite VARCHAR NOT NULL, suite_revision VARCHAR NOT NULL, item VARCHAR NOT NULL,
  model VARCHAR NOT NULL, model_revision VARCHAR NOT NULL, finished_s FLOAT NOT NULL, record BLOB NOT NULL,
  PRIMARY KEY (suite, suite_revision, item, model, model_revision));
CREATE INDEX evaluations_by_model ON evaluations (model);
CREATE TABLE feedback (decision_id VARCHAR NOT NULL, metric VARCHAR NOT NULL, key_id VARCHAR NOT NULL,
  received_s FLOAT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (decision_id, metric));
CREATE INDEX ix_feedback_received_s ON feedback (received_s);
CREATE TABLE artifacts (name VARCHAR NOT NULL, revision VARCHAR NOT NULL, at_s FLOAT NOT NULL,
  data BLOB NOT NULL, PRIMARY KEY (name));
CREATE TABLE policy_events (version INTEGER NOT NULL, at_s FLOAT NOT NULL, kind VARCHAR NOT NULL,
  record BLOB NOT NULL, PRIMARY KEY (version, at_s, kind));
CREATE TABLE config_changes (id INTEGER NOT NULL, at_s FLOAT NOT NULL, name VARCHAR NOT NULL,
  detail BLOB NOT NULL, PRIMARY KEY (id));
INSERT INTO schema_version VALUES (1);
"""

POLICY = {
    "active": 7,
    "previous": None,
    "candidate": {"version": 8, "stage": "canary", "share": 0.1, "step": 1, "started_s": 5.0, "since_s": 6.0},
    "last_version": 8,
    "promoted_s": 4.0,
    "frozen_since_s": None,
    "paused": False,
    "reference": None,
    "trained_s": 3.0,
}


def write_old_store(path: Path, decisions: int) -> None:
    """Decisions and their outcomes, a secret, a rollout, an artifact; in WAL mode, as it was."""
    encode = msgspec.msgpack.encode
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(SCHEMA)
        for number in range(decisions):
            name, at_s = f"d-{number}", 1_000.0 + number
            decision = {
                "decision_id": name,
                "created_s": at_s,
                "key_id": "k",
                "requested": "auto",
                "profile": "",
                "model": "small",
                "policy": "learned@7",
                "propensity": 0.5,
                "epsilon": 0.0,
                "seed": number,
            }
            outcome = {
                "decision_id": name,
                "finished_s": at_s + 1.0,
                "model": "small",
                "replica": "r1",
                "outcome": {"status": "ok", "ttft_s": 0.1},
                "fallbacks": [],
                "ingress_s": None,
            }
            row = (name, at_s, "k", "small", encode(decision))
            connection.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?)", row)
            row = (name, at_s + 1.0, "small", "ok", encode(outcome))
            connection.execute(
                "INSERT INTO outcomes (decision_id, finished_s, model, status, record)"
                " VALUES (?, ?, ?, ?, ?)",
                row,
            )
        state = {"secret": b"the-old-secret", "policy": encode(POLICY), "statistics": b"\x81\xa3odd\x01"}
        connection.executemany("INSERT INTO state VALUES (?, ?)", state.items())
        connection.execute("INSERT INTO artifacts VALUES ('policy:7', 'abc', 1.0, X'0102')")
    connection.close()
