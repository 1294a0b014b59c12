"""The HTML report of a replay: figures, timeline and drops from its rows, and the page that shows them."""
