"""What became of every packet: the columns of the log, its writer, and the explanation of a drop.

`schema` is the one table that log, `emu schema` and docs share; `chunks` turns rows of either engine into it, `log`
writes it down; `explain` says what a reason means, and of a row what `reason_words` has for it.
"""
