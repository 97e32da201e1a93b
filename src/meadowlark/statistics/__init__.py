"""What a number is worth: `intervals` (how sure), `student` (in small samples), `paired` (two
systems on the same items), `wins` (rates from wins, ties and losses in both orders) and `agreement`
(raters with each other). Plain numbers in, plain numbers out."""
