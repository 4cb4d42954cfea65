"""Evaluation: metrics, a protocol with controls, intervals, and the report."""
