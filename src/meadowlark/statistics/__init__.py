"""What a number is worth: `intervals` (how sure), `paired` (two systems on the same items) and
`wins` (rates from wins, ties and losses in both orders). Plain numbers in, plain numbers out."""
