"""A project as one YAML file without secrets: written from what is there, brought into any instance."""
