"""What only people who work on the project use; not part of the wheel."""
