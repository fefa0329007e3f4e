"""Values and rules without any I/O: jobs, quotas, policies, errors."""
