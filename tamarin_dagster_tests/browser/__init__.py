"""Dagster's page as a person sees it: a real `tamarin-dagster dev`, clicked through in headless Chromium."""
