"""Verdicts as other tools know them: `formats` is the table of what there is, each other module writes one kind.

`rows` writes the columns of the log, `kfree_skb` the kernel's trace lines, `net_dm` its drop-monitor messages,
`packets` captures with only some of the frames; `json_schema` is the schema of a row.
"""
