-- How many jobs are at each provider, counted before another one is sent.

CREATE INDEX jobs_at_provider ON jobs (provider) WHERE status IN ('submitting', 'running');
