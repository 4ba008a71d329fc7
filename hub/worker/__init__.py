"""Doing what is due: the pump that takes work from the store, the bell that says there is some. Only importer of Dramatiq."""
