"""ICC(2,1) and ICC(2,k) from sums of squares, cell by cell (Shrout & Fleiss 1979, table 2)."""

import numpy as np


def icc_literal(table: np.ndarray) -> tuple[float, float]:
    """Single and average measure of a full table [targets, judges]."""
    n, k = len(table), len(table[0])
    grand = sum(sum(row) for row in table) / (n * k)
    rows = [sum(row) / k for row in table]
    columns = [sum(row[j] for row in table) / n for j in range(k)]
    total = sum((cell - grand) ** 2 for row in table for cell in row)
    between_rows = k * sum((mean - grand) ** 2 for mean in rows)
    between_columns = n * sum((mean - grand) ** 2 for mean in columns)
    b, j = between_rows / (n - 1), between_columns / (k - 1)
    e = (total - between_rows - between_columns) / ((n - 1) * (k - 1))
    return (b - e) / (b + (k - 1) * e + k * (j - e) / n), (b - e) / (b + (j - e) / n)
