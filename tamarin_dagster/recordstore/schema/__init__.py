"""The tables, the frozen migrations, and the views and functions that are made again when their text has changed."""
