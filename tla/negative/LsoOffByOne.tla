---- MODULE LsoOffByOne ----
(* The last stable offset is one too high (Redpanda 21.10). *)
EXTENDS MC

OneTooHigh(part) ==
    IF OpenFirsts(part) = {} THEN HighWatermark(part) ELSE Min(OpenFirsts(part)) + 1
====
