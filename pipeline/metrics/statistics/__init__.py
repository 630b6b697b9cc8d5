"""Intervals, tests, power, trends, agreement of raters."""
