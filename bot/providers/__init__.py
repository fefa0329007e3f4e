"""The only place that speaks HTTP to image APIs."""
