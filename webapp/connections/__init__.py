"""Connections: sources and destinations, their tests, and what they hold."""
