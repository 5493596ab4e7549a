"""Two solutions of one problem: the units of one permuted to match the other, and a curve of low loss between them."""
