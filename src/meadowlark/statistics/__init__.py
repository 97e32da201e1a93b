"""What a number is worth. Plain numbers in, plain numbers out.

`intervals` (how sure), `student` (in small samples), `power` (how many prompts), `paired` (two
systems on the same items), `wins` (rates from wins, ties and losses in both orders),
`length_control` (at equal length), `ratings` (of many models), `rubrics` (criteria with points),
`agreement` (of raters), `human` (the table of a human evaluation), and `logistic`, the fit under
two of them."""
