"""What a user sees: tables of runs, progress, what there is to choose from, whether a run works here."""
