-- The catalogue as it changes while the program stays: what the provider's description asked for and what became of it,
-- and what providers say about single models.

CREATE TABLE catalogue_changes (
    id         INTEGER PRIMARY KEY,
    model_id   TEXT    NOT NULL CHECK (model_id <> ''),
    part       TEXT    NOT NULL CHECK (part IN ('entry', 'price')),
    state      TEXT    NOT NULL CHECK (state IN ('held', 'applied', 'accepted', 'kept', 'withdrawn')),
    digest     TEXT    NOT NULL,
    edits      TEXT    NOT NULL CHECK (length(edits) <= 200000),
    lines      TEXT    NOT NULL CHECK (length(lines) <= 200000),
    reasons    TEXT    NOT NULL,
    stops      INTEGER NOT NULL CHECK (stops IN (0, 1)),
    seen_at    INTEGER NOT NULL,
    told_at    INTEGER,
    decided_at INTEGER,
    decided_by TEXT,
    CHECK ((state = 'held') = (decided_at IS NULL)),
    CHECK ((decided_at IS NULL) = (decided_by IS NULL))
) STRICT;

-- One open question about each part of a model.
CREATE UNIQUE INDEX catalogue_changes_held ON catalogue_changes (model_id, part) WHERE state = 'held';

CREATE INDEX catalogue_changes_untold ON catalogue_changes (id) WHERE told_at IS NULL;

-- A decision stays what it was; only the name of who made it may be forgotten.
CREATE TRIGGER catalogue_changes_are_decided_once
BEFORE UPDATE OF model_id, part, state, digest, edits, decided_at ON catalogue_changes WHEN OLD.state <> 'held'
BEGIN
    SELECT RAISE(ABORT, 'a change of the catalogue is decided once');
END;

CREATE TABLE model_notices (
    model_id   TEXT    PRIMARY KEY CHECK (model_id <> ''),
    kind       TEXT    NOT NULL CHECK (kind IN ('gone', 'ending')),
    heir       TEXT    NOT NULL,
    ends_at    INTEGER,
    noticed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
