"""Commands of moderators: quotas, settings, running jobs, reports."""
