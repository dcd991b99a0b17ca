"""Evidence: estimates with intervals, claims and their verdicts; nothing is drawn here."""
