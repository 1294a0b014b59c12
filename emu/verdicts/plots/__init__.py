"""Pictures of runs: a report for a browser (`html`), a plot as PNG or SVG (`image`), both from `timeline`."""
