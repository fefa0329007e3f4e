-- Results that are made and cannot be fetched, version 18.

-- `unfetched_since_at`: since when the image of a job is made, but its address cannot be reached. Such a job takes no slot.
ALTER TABLE jobs ADD COLUMN unfetched_since_at BIGINT
    CHECK (unfetched_since_at IS NULL OR submitted_at IS NOT NULL);
