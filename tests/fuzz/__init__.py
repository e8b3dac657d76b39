"""Odd inputs for every reader: ``make fuzz MINUTES=5``, and a short seeded part among the tests."""
