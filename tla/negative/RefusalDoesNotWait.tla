---- MODULE RefusalDoesNotWait ----
(* Only what a decision writes is waited for, not what it read: the answer to a duplicate overtakes the original. *)
EXTENDS MC

WritesOnly(m, bs) ==
    IF bs # blocks THEN Len(bs) ELSE 0
====
