"""Attacks that take minutes (`make fuzz`). A package, because its modules are named like those of the unit tests."""
