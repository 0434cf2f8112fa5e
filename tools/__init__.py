"""Programs for people who work on the project. They are not part of the wheel."""
