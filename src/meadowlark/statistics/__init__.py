"""What a number is worth: plain numbers or verdicts in, plain numbers out.

`intervals` (how sure), `student` (in small samples), `power` (how many prompts), `paired` (two
systems on the same items), `wins` (rates from wins, ties and losses in both orders),
`length_control` (at equal length), `ratings` (of many models), `rubrics` (criteria with points),
`agreement` (coefficients), `raters` (who agrees with whom), `human` (the table of a human
evaluation), and `logistic`, the fit under two of them."""
