"""What is measured, and against what. One file a question; figures only mean much as ratios."""
