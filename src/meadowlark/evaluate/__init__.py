"""What a model can do: exams, free-form answers, judging two answers, and the scores of it."""
