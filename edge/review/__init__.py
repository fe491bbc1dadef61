"""What a person does with a result: look at its doubtful cells first, correct them, sign, find and export results."""
