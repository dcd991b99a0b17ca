"""Report: tables, figures, pages."""
