"""The Dagster UI as users see it: a real `tamarin-dagster dev`, clicked through in headless Chromium."""
