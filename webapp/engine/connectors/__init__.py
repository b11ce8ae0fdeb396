"""What Hohmann reads from and writes to. Nothing is imported here: a driver loads when its connector is used."""
