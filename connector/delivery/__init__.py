"""From an accepted event to its outcome: workers, attempts, and who waits for an outcome. No HTTP, no SQL here."""
