"""The HTTP service: routes, job records, and the process that computes."""
