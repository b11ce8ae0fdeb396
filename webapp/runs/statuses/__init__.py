"""The log of a job's statuses: runs write it, and whoever runs an external job reports through it."""
