"""Labels by people: regions picked for correction in QuPath, and what comes back from there."""
