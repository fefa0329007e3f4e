"""A provider's own description of its models: reading it, comparing it with ours, and the operator's corrections."""
