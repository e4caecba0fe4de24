"""Fixtures shared by all tests: one Temporal server and one OpenBao for each test process."""
