"""Report: estimates and intervals, tables, figures, verdicts, pages."""
