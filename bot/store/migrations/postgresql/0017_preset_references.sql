-- An image that a preset adds to each order; the blob store has its bytes.

ALTER TABLE presets ADD COLUMN reference_sha256 TEXT CHECK (length(reference_sha256) = 64);
ALTER TABLE presets ADD COLUMN reference_content_type TEXT;
ALTER TABLE presets ADD COLUMN reference_width BIGINT;
ALTER TABLE presets ADD COLUMN reference_height BIGINT;

CREATE INDEX presets_reference ON presets (reference_sha256) WHERE reference_sha256 IS NOT NULL;
